"""sealing: the sealed file of a blind job's release, its wrapped key, and what members say of it."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.plain import sealed
from tests.plain import transcripts as t
from tests.plain.ciphers import drawn, expand
from tests.plain.setup import Said, signed
from tests.vectors.subjects.federations import JOB, epoch, rounds

Document = dict[str, Any]


def sealing_document() -> Document:
    made = rounds()["five, attempt 1"]
    epoch_, state = epoch("five"), made.following.digest
    key = expand(epoch_.group(2), t.transcript("state-file", state))
    data = drawn("the file of a state", 100)
    file = sealed.file(key, data)
    privates = [drawn("recipient/1", 96), drawn("recipient/2", 96)]
    recipients = [sealed.recipient_key(private) for private in privates]
    purpose = b"concord/release/1" + JOB + state

    def wrapped(index: int, recipient: int, to: bytes = purpose) -> bytes:
        draws = drawn(f"wrap/{index}/{recipient}", 64)
        return sealed.wrap(key, recipients[recipient], to, draws[:32], draws[32:])

    def said(index: int, **changes: Any) -> Said:
        text = {
            "index": index, "epoch": 1, "state_digest": state, "sealed_blob": hashlib.sha256(file).digest(),
            "wrapped": [wrapped(index, 0), wrapped(index, 1)], **changes,
        }  # fmt: skip
        return signed(text, epoch_.members[index - 1], t.sealing_text(JOB, epoch_.roster_hash, text))

    sealings = [said(2), said(4)]
    cases = [
        {
            "name": "a release of \"five\", after round 1", "comment": "f + 1 = 2 members vouch for one file, for two recipients.",
            "setup": "five", "state_digest": state, "key": key, "file": data, "sealed": file,
            "sealed_blob": hashlib.sha256(file).digest(), "purpose": purpose,
            "recipients": [{"private": private, "public": public} for private, public in zip(privates, recipients, strict=True)],
            "wrap draws": "SHAKE256 of the label in generate.py: X25519 scalar, then ML-KEM's m", "sealings": sealings,
        },
        {"name": "an empty file", "comment": "One piece, empty.", "key": key, "file": b"", "sealed": sealed.file(key, b"")},
    ]  # fmt: skip
    flipped = file[:-1] + bytes([file[-1] ^ 1])
    good = {"setup": "five", "state_digest": state, "recipients": 2}
    invalid = [
        {"name": "a flipped bit", "comment": "", "kind": "file", "key": key, "sealed": flipped, "error": "verification-failed"},
        {"name": "cut off", "comment": "", "kind": "file", "key": key, "sealed": file[:60], "error": "verification-failed"},
        {"name": "another key", "comment": "", "kind": "file", "key": bytes(32), "sealed": file, "error": "verification-failed"},
        {"name": "something after the end", "comment": "", "kind": "file", "key": key, "sealed": file + file[48:],
         "error": "verification-failed"},
        {"name": "for another recipient", "comment": "", "kind": "wrapped", "private": privates[1], "wrapped": wrapped(2, 0),
         "purpose": purpose, "error": "verification-failed"},
        {"name": "for another purpose", "comment": "Another job or state.", "kind": "wrapped", "private": privates[0],
         "wrapped": wrapped(2, 0), "purpose": purpose[:-1] + b"\x00", "error": "verification-failed"},
        {"name": "one member alone", "comment": "f + 1 are needed: it may lie.", "kind": "sealings", **good,
         "sealings": sealings[:1],
         "check": "sealing"},
        {"name": "two files", "comment": "", "kind": "sealings", **good, "sealings": [said(2), said(4, sealed_blob=bytes(32))],
         "check": "sealing"},
        {"name": "another state", "comment": "", "kind": "sealings", **good, "sealings": [said(2), said(4, state_digest=bytes(32))],
         "check": "sealing"},
        {"name": "a member twice", "comment": "", "kind": "sealings", **good, "sealings": [said(2), said(2)], "check": "repeated"},
        {"name": "a recipient is missing", "comment": "", "kind": "sealings", **good,
         "sealings": [said(2), said(4, wrapped=[wrapped(4, 0)])], "check": "sealing"},
        {"name": "a forged signature", "comment": "", "kind": "sealings", **good,
         "sealings": [said(2), {**said(4), "sealed_blob": hashlib.sha256(file).digest(), "signature": said(2)["signature"]}],
         "check": "signature"},
    ]  # fmt: skip
    return {
        "section": "SEALING, and docs/protocol/release.md, \"Sealed files\"",
        "comment": "The key is that of the state's file, KG of round 2.",
        "cases": cases,
        "invalid": invalid,
    }  # fmt: skip
