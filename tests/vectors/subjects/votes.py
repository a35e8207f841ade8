"""certificates and messages: what a member refuses to hear, and what a collector refuses to count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.plain import transcripts as t
from tests.plain.attempt import Attempt
from tests.plain.ciphers import drawn
from tests.plain.convictions import two_statements
from tests.plain.setup import Said, signed
from tests.vectors.subjects.federations import epoch, rounds

Document = dict[str, Any]


class _Workshop:
    """A coordinator that holds every key: what it may really sign, each case says."""

    def __init__(self, name: str, member: int) -> None:
        self.name, self.member = name, member
        self.attempt: Attempt = rounds()[name].attempt
        self.cases: list[Document] = []

    def sign(self, index: int, said: Said, text: bytes) -> Said:
        return signed(said, self.attempt.epoch.members[index - 1], text)

    def entry(self, index: int, **changes: Any) -> Said:
        upload = self.attempt.uploads.get(index, {"root": bytes(32)})
        trailer = t.trailer_hash(upload) if "boxes" in upload else bytes(32)
        said = {"index": index, "root": upload["root"], "trailer_hash": trailer, **changes}
        return self.sign(index, said, t.upload_text(self.attempt.context, index, said["root"], said["trailer_hash"]))

    def survivors(self, entries: Sequence[Said]) -> Said:
        return {"context": self.attempt.context, "entries": list(entries)}

    def ack(self, index: int, survivors: Said, signer: int = 0) -> Said:
        said = {"index": index, "context": survivors["context"], "survivors_digest": t.survivors_hash(survivors)}
        return self.sign(signer or index, said, t.ack_text(said))

    def certificate(self, survivors: Said, signers: Sequence[int]) -> Said:
        return {"survivors": survivors, "acks": [self.ack(index, survivors) for index in signers]}

    def ready(self, index: int, **changes: Any) -> Said:
        attempt = self.attempt
        given = next(
            (each for each in attempt.readies if each["index"] == index), {**attempt.readies[0], "index": index}
        )
        said = {**given, **changes}
        return self.sign(index, said, t.ready_text(attempt.epoch.job, attempt.epoch.roster_hash, said))

    def refused(
        self, kind: str, name: str, check: str, fields: Said, comment: str = "", *, after: str = "Upload", alone: bool = False,
        announcement: Said | None = None,
    ) -> None:  # fmt: skip
        case = {
            "name": f"{self.name}: {kind}: {name}", "comment": comment, "round": self.name, "member": self.member, "after": after,
            "kind": kind, "fields": fields, "alone": alone, "check": check,
        }  # fmt: skip
        self.cases.append(case if announcement is None else {**case, "announcement": announcement})


def _certificates(shop: _Workshop) -> None:
    """n = 5: f = 1, q = 4, m = 4; R_r is everybody, U is 1, 2, 4, 5."""
    attempt = shop.attempt
    good, acks = attempt.survivors, attempt.acks
    entries = good["entries"]
    certificate = attempt.certificate

    def wrong(name: str, check: str, fields: Said, comment: str = "", **more: Any) -> None:
        shop.refused("Certificate", name, check, fields, comment, alone=True, **more)

    wrong("q - 1 ACKs", "acks", {**certificate, "acks": acks[:3]})
    wrong("no ACK", "acks", {**certificate, "acks": []})
    wrong("a member ACKs twice", "repeated", {**certificate, "acks": [*acks[:3], acks[2]]}, "Quorums count members.")
    wrong("not sorted", "repeated", {**certificate, "acks": acks[::-1]})
    forged = {**acks[3], "signature": acks[2]["signature"]}
    wrong("a forged ACK", "signature", {**certificate, "acks": [*acks[:3], forged]})
    wrong(
        "an ACK signed by another member",
        "signature",
        {**certificate, "acks": [*acks[:3], shop.ack(5, good, signer=1)]},
    )
    stranger = {**acks[3], "index": 6}
    wrong("an ACK of place 6", "stranger", {**certificate, "acks": [*acks[:3], stranger]})
    other = shop.survivors([shop.entry(index) for index in (1, 2, 3, 4)])
    wrong("an ACK for other survivors", "acks", {**certificate, "acks": [*acks[:3], shop.ack(5, other)]})
    few = shop.survivors(entries[:3])
    wrong(
        "a cohort of m - 1", "cohort-small", shop.certificate(few, (1, 3, 4, 5)), "Certified by q members all the same."
    )
    twice = shop.survivors([*entries[:3], entries[2]])
    wrong("a member twice in U", "repeated", shop.certificate(twice, (1, 3, 4, 5)), "It would count twice.")
    unsigned = shop.survivors([*entries[:3], {**entries[3], "root": drawn("no root", 32)}])
    wrong("an upload that its member did not sign", "signature", shop.certificate(unsigned, (1, 3, 4, 5)))
    swapped = shop.survivors([*entries[:3], {**entries[3], "trailer_hash": entries[2]["trailer_hash"]}])
    wrong("a swapped trailer", "signature", shop.certificate(swapped, (1, 3, 4, 5)))
    before = rounds()["five, aborted"].attempt
    shop.refused("Certificate", "of the attempt before", "context", before.certificate, "It was aborted.")
    own = shop.survivors([shop.entry(1, root=drawn("another root", 32)), *entries[1:]])
    shop.refused("Certificate", "an upload of ours that we did not make", "own-entry", shop.certificate(own, (1, 3, 4, 5)),
                 "Signed with our key all the same: a copy of this member's node.")  # fmt: skip
    shop.refused("Certificate", "after our ABORT", "aborted", certificate, after="Abort")
    shop.refused("Certificate", "a second one, after our REVEAL", "bound-cohort", shop.certificate(other, (1, 2, 3, 4)),
                 "More than f members lie here, else it cannot be.", after="Reveal")  # fmt: skip


def _survivors(shop: _Workshop) -> None:
    attempt = shop.attempt
    entries = attempt.survivors["entries"]
    other = shop.survivors([shop.entry(index) for index in (1, 2, 3, 4)])
    kind = "Survivors"
    shop.refused(kind, "a second set", "two-survivor-sets", other, "After our ACK of the first.", after="Ack")
    shop.refused(kind, "everybody, after an ACK of four", "two-survivor-sets",
                 shop.survivors([shop.entry(index) for index in (1, 2, 3, 4, 5)]), after="Ack")  # fmt: skip
    shop.refused(kind, "after our ABORT", "aborted", attempt.survivors, after="Abort")
    shop.refused(kind, "m - 1 members", "cohort-small", shop.survivors(entries[:3]), alone=True)
    shop.refused(kind, "nobody", "cohort-small", shop.survivors([]), alone=True)
    raised = [shop.ready(index, min_cohort=5 if index == 2 else 4) for index in attempt.ready]
    shop.refused(kind, "smaller than one of its members asks for", "cohort-small", attempt.survivors,
                 "Member 2's READY says 5; ctx is the same.", announcement={**attempt.announcement, "readies": raised})  # fmt: skip
    shop.refused(kind, "before the announcement", "context", attempt.survivors, after="Ready")


def _others(shop: _Workshop) -> None:
    attempt = shop.attempt
    certificate = attempt.certificate
    box = attempt.recovers[2, 1]
    kind = "Recover"
    outside = next(each for each in attempt.uploads[3]["boxes"] if each["holder"] == 1)["ciphertext"]
    shop.refused(kind, "an owner outside U", "recover-owner", {**box, "owner": 3, "edges": attempt.edges(3), "box": outside},
                 "Its edges are out; its b must stay.")  # fmt: skip
    shop.refused(kind, "ourselves", "recover-owner", {**box, "owner": 1, "edges": attempt.edges(1)})
    shop.refused(kind, "other edges", "recover-edges", {**box, "edges": [1, 3, 4]})
    shop.refused(kind, "another owner's box", "box", {**box, "owner": 4, "edges": attempt.edges(4)})
    shop.refused(kind, "another holder's box", "box", {**box, "box": attempt.recovers[2, 3]["box"]})
    shop.refused(
        kind,
        "the box of another attempt",
        "box",
        {**box, "box": rounds()["five, aborted"].attempt.recovers[2, 1]["box"]},
    )
    shop.refused(kind, "q - 1 ACKs", "acks", {**box, "certificate": {**certificate, "acks": certificate["acks"][:3]}})
    shop.refused(kind, "after our ABORT", "aborted", box, after="Abort")
    kind = "Close"
    shop.refused(kind, "other survivors than its certificate", "acks", {**attempt.close, "survivors_digest": bytes(32)})
    shop.refused(kind, "of an attempt that was not announced", "context", rounds()["five, aborted"].attempt.close)
    kind = "AbortRequest"
    shop.refused(
        kind,
        "after our REVEAL",
        "bound-cohort",
        {"epoch": 1, "round": 1, "attempt": 1},
        "It can only be closed.",
        after="Reveal",
    )
    shop.refused(
        kind, "after our RECOVER", "bound-cohort", {"epoch": 1, "round": 1, "attempt": 1}, after="RecoverReply"
    )
    shop.refused(kind, "of another epoch", "stale-round", {"epoch": 2, "round": 1, "attempt": 1})
    kind = "Reopen"
    void = {"attempt": 1, "ready": list(attempt.ready), "certificate": certificate, "proofs": []}
    shop.refused(kind, "of another round", "stale-round", {"epoch": 1, "round": 2, "void": void})
    shop.refused(
        kind,
        "q - 1 ACKs",
        "acks",
        {"epoch": 1, "round": 1, "void": {**void, "certificate": {**certificate, "acks": certificate["acks"][:3]}}},
    )
    shop.refused(kind, "another R_r", "context", {"epoch": 1, "round": 1, "void": {**void, "ready": [1, 2, 4, 5]}},
                 "The certificate is under another ctx.")  # fmt: skip
    liar, other = attempt.epoch.members[1], shop.survivors([shop.entry(index) for index in (1, 2, 3, 4)])

    def proof(context: bytes) -> bytes:
        said = [
            {"index": 2, "context": context, "survivors_digest": t.survivors_hash(each)}
            for each in (attempt.survivors, other)
        ]
        texts = [t.ack_text(each) for each in said]
        first, second = ((text, signed({}, liar, text)["signature"]) for text in texts)
        return two_statements(liar.identity, first, second)

    before = proof(rounds()["five, aborted"].attempt.context)
    for name, check, proofs in (
        ("a proof of another attempt", "proof", [before]),
        ("a proof that is none", "proof", [b"{}"]),
        ("fewer than m without the convicted", "cohort-small", [proof(attempt.context)]),
    ):
        shop.refused(kind, name, check, {"epoch": 1, "round": 1, "void": {**void, "proofs": proofs}})


def _announcements(shop: _Workshop) -> None:
    attempt = shop.attempt
    good = attempt.announcement
    readies, aborts = attempt.readies, attempt.aborts

    def wrong(
        name: str, check: str, comment: str = "", *, after: str = "Ready", alone: bool = True, **changes: Any
    ) -> None:
        shop.refused("Announcement", name, check, {**good, **changes}, comment, after=after, alone=alone)

    wrong("fewer than m READYs", "cohort-small", readies=readies[:3])
    wrong("a READY twice", "repeated", readies=[*readies[:4], readies[3]])
    wrong(
        "a lowered minimum",
        "min-cohort",
        "m is 4; signed all the same.",
        readies=[shop.ready(1, min_cohort=3), *readies[1:]],
    )
    wrong("a raised minimum that is not met", "cohort-small", readies=[*readies[:3], shop.ready(4, min_cohort=5)])
    wrong("a forged READY", "signature", readies=[*readies[:4], {**readies[4], "signature": readies[3]["signature"]}])
    wrong("two models", "different-models", readies=[*readies[:4], shop.ready(5, state_digest=bytes(32))])
    wrong("a READY of the attempt before", "ready", readies=[*readies[:4], shop.ready(5, attempt=0)])
    wrong("a READY of another epoch", "epoch", readies=[*readies[:4], shop.ready(5, epoch=2)])
    wrong("no ABORT of the attempt before", "aborts", aborts=[])
    wrong("q - 1 ABORTs", "aborts", aborts=aborts[:3])
    wrong("a member ABORTs twice", "repeated", aborts=[*aborts[:3], aborts[2]])
    wrong("an ABORT of another attempt", "aborts", aborts=[*aborts[:3], attempt.abort(5)])
    wrong("a forged ABORT", "signature", aborts=[*aborts[:3], {**aborts[3], "signature": aborts[2]["signature"]}])
    wrong("receipts before round 1", "receipts", receipts=[attempt.receipt(index, bytes(32)) for index in (1, 2, 3, 4)])
    other = [shop.ready(index, state_digest=drawn("another state", 32)) for index in attempt.ready]
    wrong(
        "of another model than ours",
        "different-models",
        "All READYs agree; attack: each member gets another model.",
        alone=False,
        readies=other,
    )
    wrong("a second R_r for one attempt", "second-announcement", after="Upload", alone=False, readies=readies[:4])
    void = {
        "attempt": 0,
        "ready": list(attempt.ready),
        "certificate": rounds()["five, aborted"].attempt.certificate,
        "proofs": [],
    }
    wrong("by ABORTs and by a certificate", "void", void=void)
    wrong("by a certificate, for others than its cohort", "bound-cohort", aborts=[], void=void)
    wrong("by a certificate of another attempt", "void", aborts=[], void={**void, "attempt": 1})


def _second_round(shop: _Workshop) -> None:
    """n = 4, round 2: R_r is 1, 2, 4."""
    attempt = shop.attempt
    good, receipts = attempt.announcement, attempt.receipts
    first, state = rounds()["four"].attempt, attempt.state

    def wrong(name: str, check: str, comment: str = "", **changes: Any) -> None:
        shop.refused("Announcement", name, check, {**good, **changes}, comment, after="Ready", alone=True)

    def receipt(index: int, **changes: Any) -> Said:
        said = {**first.receipt(index, state), **changes}
        return shop.sign(index, said, t.receipt_text(attempt.epoch.job, attempt.epoch.roster_hash, said))

    wrong("no receipt", "receipts", receipts=[])
    wrong("q - 1 receipts", "receipts", receipts=receipts[:2])
    wrong("a member signs twice", "repeated", receipts=[*receipts[:2], receipts[1]])
    wrong(
        "receipts that do not agree on the state",
        "receipts",
        receipts=[*receipts[:2], receipt(4, state_digest=bytes(32))],
    )
    wrong(
        "receipts that do not agree on the figures",
        "receipts",
        receipts=[*receipts[:2], receipt(4, figures=[0, 0, 0, 0])],
    )
    wrong("a receipt of another round", "receipts", receipts=[*receipts[:2], receipt(4, round=2)])
    wrong(
        "a forged receipt",
        "signature",
        receipts=[*receipts[:2], {**receipts[2], "signature": receipts[1]["signature"]}],
    )
    wrong("receipts for another state than the READYs'", "different-models",
          receipts=[receipt(index, state_digest=bytes(32)) for index in (1, 3, 4)])  # fmt: skip
    entry = shop.entry(3)
    entries = attempt.survivors["entries"]
    joined = shop.survivors([entries[0], entries[1], entry, entries[2]])
    shop.refused(
        "Survivors",
        "a member that was not ready",
        "stranger",
        joined,
        "Its upload is signed under this ctx.",
        alone=True,
    )
    shop.refused(
        "Certificate", "a member that was not ready", "stranger", shop.certificate(joined, (1, 2, 3)), alone=True
    )
    old = rounds()["four"].attempt
    shop.refused("Survivors", "of the round before", "context", old.survivors, "A replay.")
    shop.refused("AbortRequest", "of the round before", "stale-round", {"epoch": 1, "round": 1, "attempt": 0})
    shop.refused(
        "Close",
        "for a state that is passed",
        "context",
        {**old.close, "round": 2},
        "The old sum under the new round's number.",
    )


def certificate_document() -> Document:
    main, second = _Workshop("five, attempt 1", 1), _Workshop("four, round 2", 1)
    _certificates(main)
    _survivors(main)
    _others(main)
    _announcements(main)
    _second_round(second)
    cases = [
        {
            "name": name,
            "round": name,
            "certificate": made.attempt.certificate,
            "survivors_digest": made.attempt.survivors_digest,
        }
        for name, made in rounds().items()
    ]
    return {
        "section": "A round",
        "comment": "Invalid: what the coordinator tells to a member that has said the message \"after\" last in this "
        "attempt (of rounds.json); "
        "announcement: in place of the round's own. alone: it is wrong whoever reads it, else from what the member "
        "remembers. A refusal "
        "changes nothing and says nothing.",
        "cases": cases,
        "invalid": [*main.cases, *second.cases],
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------- to the collector


def message_document() -> Document:
    """Round ``three``: q = 2, t = 2; member 3 falls silent after its UPLOAD."""
    shop = _Workshop("three", 0)
    attempt = shop.attempt
    made = epoch("three")
    job, rh = made.job, made.roster_hash
    invalid: list[Document] = []

    def refused(
        stage: str,
        kind: str,
        name: str,
        check: str,
        said: Said,
        sender: int = 0,
        comment: str = "",
        before: Said | None = None,
    ) -> None:
        case = {
            "name": f"{kind}: {name}", "comment": comment, "round": "three", "stage": stage,
            "from": made.members[(sender or said["index"]) - 1].id, "kind": kind, "fields": said, "check": check,
        }  # fmt: skip
        invalid.append(case if before is None else {**case, "before": before})

    def forged(said: Said) -> Said:
        return {**said, "signature": bytes(63) + b"\x01"}

    key, encapsulation = made.keys[1], made.encapsulations[0]
    refused("forming", "KeyMessage", "not signed", "key-signature", forged(key), 2)
    refused("forming", "KeyMessage", "another's credential", "impersonation", key, 3)
    refused("encapsulating", "Encapsulation", "another ciphertext than signed", "ciphertext",
            {**encapsulation, "ciphertexts": encapsulation["ciphertexts"][::-1]}, 1)  # fmt: skip
    refused("encapsulating", "Encapsulation", "in another's place", "impersonation", encapsulation, 2)
    refused("signing", "RosterSignature", "not signed", "signature", forged(made.signatures[1]), 2)
    refused(
        "opening",
        "Opening",
        "a part is missing",
        "openings",
        {**made.openings[1], "boxes": made.openings[1]["boxes"][:1]},
        2,
    )
    refused("confirming", "Confirmation", "not signed", "signature", forged(made.confirmations[1]), 2)

    refused("gathering", "Ready", "not signed", "signature", forged(attempt.readies[1]))
    refused("gathering", "Ready", "in another's place", "impersonation", attempt.readies[1], 3)
    refused("gathering", "Ready", "a lowered minimum", "min-cohort", shop.ready(2, min_cohort=2))
    refused("gathering", "Ready", "place 4", "stranger", {**attempt.readies[1], "index": 4}, 2)

    upload = attempt.uploads[2]

    def uploaded(**changes: Any) -> Said:
        said = {**upload, **changes}
        return shop.sign(2, said, t.upload_text(attempt.context, 2, said["root"], t.trailer_hash(said)))

    refused("collecting", "Upload", "not signed", "signature", forged(upload))
    refused(
        "collecting", "Upload", "a box is missing", "trailer", uploaded(boxes=upload["boxes"][:1]), comment="Signed."
    )
    refused("collecting", "Upload", "an edge is missing", "trailer", uploaded(edges=[1]))
    refused(
        "collecting",
        "Upload",
        "a secret's hash is missing",
        "trailer",
        uploaded(secret_hashes=upload["secret_hashes"][:2]),
    )
    refused(
        "collecting",
        "Upload",
        "a share's hash is missing",
        "trailer",
        uploaded(share_hashes=upload["share_hashes"][1:]),
    )
    refused("collecting", "Upload", "two of them", "two-uploads", uploaded(root=drawn("another root", 32)), before=upload,
            comment="Both are signed: they convict the member.")  # fmt: skip

    ack = shop.ack(2, attempt.survivors)
    other = shop.survivors(attempt.survivors["entries"][:2])
    refused("certifying", "Ack", "not signed", "signature", forged(ack))
    refused("certifying", "Ack", "of other survivors", "acks", shop.ack(2, other))
    refused(
        "certifying",
        "Ack",
        "two of them",
        "two-acks",
        shop.ack(2, other),
        before=ack,
        comment="They convict the member.",
    )

    reveal = attempt.reveals[2]

    def revealed(**changes: Any) -> Said:
        said = {**reveal, **changes}
        return shop.sign(2, said, t.reveal_text(said))

    refused("revealing", "Reveal", "not signed", "signature", forged(reveal))
    refused(
        "revealing",
        "Reveal",
        "another seed than committed",
        "reveal-seed",
        revealed(self_seed=bytes(32)),
        comment="It convicts the member.",
    )
    refused(
        "revealing",
        "Reveal",
        "an edge within the cohort",
        "reveal-edges",
        revealed(edges=[{"peer": 1, "seed": bytes(32)}]),
    )
    reply = attempt.replies[3, 1]

    def replied(**changes: Any) -> Said:
        said = {**reply, **changes}
        return shop.sign(1, said, t.recover_text(said))

    share = reply["shares"][0]
    refused("recovering", "RecoverReply", "not signed", "signature", forged(reply))
    refused("recovering", "RecoverReply", "a wrong share", "share-hash", replied(shares=[{**share, "value": bytes(33)}]),
            comment="It names the holder.")  # fmt: skip
    refused(
        "recovering",
        "RecoverReply",
        "a share too many",
        "share-edges",
        replied(shares=[share, {"peer": 1, "value": bytes(33)}]),
    )

    receipt = attempt.receipt(2, rounds()["three"].following.digest)

    def received(**changes: Any) -> Said:
        said = {**receipt, **changes}
        return shop.sign(2, said, t.receipt_text(job, rh, said))

    refused("closed", "Receipt", "not signed", "signature", forged(receipt))
    refused("closed", "Receipt", "for another sum", "receipt", received(survivors_digest=bytes(32)))
    refused("closed", "Receipt", "two of them", "two-receipts", received(state_digest=bytes(32)), before=receipt,
            comment="They convict the member.")  # fmt: skip
    cases = [
        {"name": f"{kind} {place}", "round": "three", "kind": kind, "fields": said, "transcript": text_of(said)}
        for kind, saids, text_of in (
            ("KeyMessage", made.keys, lambda said: t.key_text(job, said)),
            ("Encapsulation", made.encapsulations, lambda said: t.encapsulation_text(job, said)),
            ("RosterSignature", made.signatures, lambda said: t.roster_text(job, 1, said)),
            ("Opening", made.openings, lambda said: t.opening_text(job, said)),
            ("Confirmation", made.confirmations, lambda said: t.confirmation_text(job, said)),
            ("Ready", attempt.readies, lambda said: t.ready_text(job, rh, said)),
            ("Upload", attempt.uploads.values(),
             lambda said: t.upload_text(attempt.context, said["index"], said["root"], t.trailer_hash(said))),
            ("Ack", attempt.acks, t.ack_text),
            ("Reveal", attempt.reveals.values(), t.reveal_text),
            ("RecoverReply", attempt.replies.values(), t.recover_text),
            ("Abort", [attempt.abort(index) for index in (1, 2, 3)], lambda said: t.abort_text(job, rh, said)),
            ("Receipt", [attempt.receipt(index, rounds()["three"].following.digest) for index in (1, 2, 3)],
             lambda said: t.receipt_text(job, rh, said)),
        )
        for place, said in enumerate(saids, start=1)
    ]  # fmt: skip
    return {
        "section": "Transcripts",
        "comment": "Every message of setup and round \"three\" with the transcript that its signature is over; identity "
        "seeds are in setup.json. "
        "Invalid: what a collector in this stage is sent by a member, and MUST NOT count. before: a message of the same "
        "member that it took.",
        "cases": cases,
        "invalid": invalid,
    }  # fmt: skip
