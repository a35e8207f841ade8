"""convictions: files that prove a lie, and files that prove nothing."""

from __future__ import annotations

from typing import Any

from tests.plain import transcripts as t
from tests.plain.ciphers import drawn
from tests.plain.convictions import false_seed, two_statements
from tests.plain.setup import Said, signed
from tests.vectors.subjects.federations import epoch, rounds

Document = dict[str, Any]


def conviction_document() -> Document:
    """Member 2 of ``three`` lies."""
    made, attempt = epoch("three"), rounds()["three"].attempt
    liar, ctx = made.members[1], attempt.context
    key = liar.identity

    def said(text: bytes) -> tuple[bytes, bytes]:
        return text, signed({}, liar, text)["signature"]

    def ack(digest: bytes, context: bytes = ctx) -> tuple[bytes, bytes]:
        return said(t.ack_text({"context": context, "survivors_digest": digest, "index": 2}))

    def receipt(state: bytes) -> tuple[bytes, bytes]:
        return said(t.receipt_text(made.job, made.roster_hash, {**attempt.receipt(2, state)}))

    def upload(**changes: Any) -> Said:
        found = {**attempt.uploads[2], **changes}
        return signed(found, liar, t.upload_text(ctx, 2, found["root"], t.trailer_hash(found)))

    def reveal(seed: bytes) -> Said:
        found = {**attempt.reveals[2], "self_seed": seed}
        return signed(found, liar, t.reveal_text(found))

    honest, other, another = attempt.uploads[2], drawn("another seed", 32), drawn("another digest", 32)
    hashes = [t.digest("secret", ctx, 2, 0, other), *honest["secret_hashes"][1:]]
    dealt = upload(secret_hashes=hashes)
    shares = [(holder, share) for holder, share in attempt.shares[2][0].items()]
    first, second = ack(attempt.survivors_digest), ack(another)
    cases: list[tuple[str, str, bytes]] = [
        ("two ACKs", "", two_statements(key, first, second)),
        ("two UPLOADs", "Another root.", two_statements(key, *(
            said(t.upload_text(ctx, 2, root, t.trailer_hash(honest))) for root in (honest["root"], another)))),
        ("two REVEALs", "", two_statements(key, said(t.reveal_text(attempt.reveals[2])), said(t.reveal_text(reveal(other))))),
        ("two receipts", "", two_statements(key, receipt(another), receipt(other))),
        ("a revealed seed that misses its hash", "", false_seed(key, honest, 0, reveal=reveal(other))),
        ("good shares of another seed", "They bear the hashes that the trailer gives for them.", false_seed(key, dealt, 0,
         shares=shares)),
    ]  # fmt: skip
    reply = attempt.replies[3, 2]
    changed = {**reply, "shares": [{"peer": 0, "value": bytes(33)}]}
    forged = second[0], first[1]
    invalid: list[tuple[str, str, bytes]] = [
        ("one statement twice", "", two_statements(key, first, first)),
        ("statements of two kinds", "", two_statements(key, first, receipt(another))),
        ("statements for two attempts", "Both may be true.", two_statements(key, first, ack(another, drawn("another ctx", 32)))),
        ("a statement that is not signed", "", two_statements(key, first, forged)),
        ("another member's key", "", two_statements(made.members[0].identity, first, second)),
        ("two answers to RECOVER", "They follow from the box that the holder was shown.",
         two_statements(key, said(t.recover_text(reply)), said(t.recover_text(changed)))),
        ("two READYs", "A state that q receipts sign may replace one's own.",
         two_statements(key, *(said(t.ready_text(made.job, made.roster_hash, {**attempt.readies[1], "state_digest": state}))
                               for state in (another, other)))),
        ("not canonical", "A space.", two_statements(key, first, second).replace(b":", b": ", 1)),
        ("a field too many", "", two_statements(key, first, second).replace(b"{", b'{"by":"us",', 1)),
        ("upper-case hex", "", two_statements(key, first, second).replace(key.hex().encode(), key.hex().upper().encode())),
        ("the seed that was committed to", "", false_seed(key, honest, 0, reveal=attempt.reveals[2])),
        ("shares of the seed that was committed to", "", false_seed(key, honest, 0, shares=shares)),
        ("t - 1 shares", "", false_seed(key, dealt, 0, shares=shares[:1])),
        ("a share that misses its hash", "It names its holder, not the dealer.",
         false_seed(key, dealt, 0, shares=[(shares[0][0], bytes(33)), shares[1]])),
        ("neither REVEAL nor shares", "", false_seed(key, dealt, 0)),
        ("a peer without an edge", "", false_seed(key, honest, 2, reveal=reveal(other))),
        ("an upload that is not signed", "", false_seed(key, {**honest, "secret_hashes": hashes}, 0, shares=shares)),
        ("a REVEAL that is not signed", "", false_seed(key, honest, 0, reveal={**reveal(other), "self_seed": another})),
    ]  # fmt: skip
    return {
        "section": "Convictions",
        "comment": "file: UTF-8. Cases convict member 2 of round \"three\"; invalid files convict nobody.",
        "cases": [
            {"name": name, "comment": comment, "round": "three", "identity key": key, "convicted": 2, "file": file.decode()}
            for name, comment, file in cases
        ],
        "invalid": [
            {"name": name, "comment": comment, "file": file.decode(), "error": "verification-failed"} for name, comment,
             file in invalid
        ],
    }  # fmt: skip
