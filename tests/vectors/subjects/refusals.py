"""sums, audits, wire: what is read after the votes, and bytes that are no message."""

from __future__ import annotations

from typing import Any

from tests.plain import audit, sums, wire
from tests.plain.attempt import Attempt
from tests.plain.ciphers import drawn
from tests.plain.update import bytes_of
from tests.vectors.subjects.federations import epoch, rounds

Document = dict[str, Any]


def _moved(attempt: Attempt, by: dict[int, int], header: dict[int, int] | None = None) -> bytes:
    """The published sum, with numbers added to levels and header words by place: masks stay as they are."""
    data, at = b"", 0
    for index, bits, values in sums.pieces_of(attempt.code, attempt.sum):
        if bits == 64 and index > 2**63:
            data += bytes_of([value + (header or {}).get(place, 0) for place, value in enumerate(values)], 64)
        else:
            data += bytes_of([value + by.get(at + place, 0) for place, value in enumerate(values)], bits)
            at += len(values)
    return data


def sum_document() -> Document:
    cases = [
        {"name": name, "round": name, "sum": made.attempt.sum, "levels": made.attempt.opened().levels}
        for name, made in rounds().items()
        if name != "five, aborted"
    ]
    invalid = []
    for name in ("three", "four", "five, attempt 1"):
        attempt = rounds()[name].attempt
        total, size, bound = attempt.opened(), len(attempt.cohort), len(attempt.cohort) * attempt.code.bound
        levels = total.levels
        other = next(place for place in range(1, 4) if levels[place] != levels[0])
        changed: list[tuple[str, str, bytes]] = [
            ("a byte short", "sum-size", attempt.sum[:-1]),
            ("a parameter long", "sum-size", bytes(attempt.code.bits // 8) + attempt.sum),
            ("another weight", "sum-weight", _moved(attempt, {}, {0: 1})),
            ("norm out of range", "sum-header", _moved(attempt, {}, {1: size * 2**32 + 1})),
            ("saturation below zero", "sum-header", _moved(attempt, {}, {2: -total.header[2] - 1})),
            ("a level above the bound", "sum-range", _moved(attempt, {0: bound + 1 - levels[0]})),
            ("a level below the bound", "sum-range", _moved(attempt, {0: -bound - 1 - levels[0]})),
            ("one level moved by 1", "sum-mac", _moved(attempt, {0: 1 if levels[0] < bound else -1})),
            ("two levels of a chunk changed over", "sum-mac", _moved(attempt, {0: levels[other] - levels[0],
             other: levels[0] - levels[other]})),
            ("two chunks changed over in a place", "sum-mac", _moved(attempt, {0: levels[4] - levels[0],
             4: levels[0] - levels[4]})),
            ("saturation moved by 1", "sum-mac", _moved(attempt, {}, {2: 1})),
            ("a word of the MAC moved", "sum-mac", _moved(attempt, {}, {attempt.code.header_words - 1: 1})),
        ]  # fmt: skip
        if attempt.code.metrics:
            changed += [
                ("share of a metric out of range", "sum-header", _moved(attempt, {}, {4: 2**40})),
                ("a metric out of range", "sum-header", _moved(attempt, {}, {3: 2**58})),
                ("a metric moved by 2^-32", "sum-mac", _moved(attempt, {}, {3: 1})),
            ]
        if attempt.code.bits == 32:
            changed.append(
                ("one level moved by 2^30", "sum-mac", _moved(attempt, {0: -(2**30) if levels[0] > 0 else 2**30}))
            )
        invalid += [
            {"name": f"{name}: {what}", "comment": "", "round": name, "sum": data, "check": check}
            for what, check, data in changed
        ]
    return {
        "section": "Checks on a sum",
        "comment": "round: of rounds.json; its blind masks, pads and MAC key. Every member MUST refuse the invalid ones.",
        "cases": cases,
        "invalid": invalid,
    }


def _shown(parts: list[Document]) -> list[Document]:
    """Uploads by reference."""
    return [
        {**part, "upload": None if part["upload"] is None else {"ref": f"uploads/{part['index']}"}} for part in parts
    ]


def audit_document() -> Document:
    cases, invalid = [], []
    for name in ("three", "four, round 2", "five, attempt 1"):
        attempt = rounds()[name].attempt
        for place in range(len(attempt.updates[attempt.cohort[0]].chunks)):
            cases.append(
                {
                    "name": f"{name}, place {place}",
                    "round": name,
                    "place": place,
                    "shown": _shown(audit.shown(attempt, place)),
                }
            )
    name = "five, attempt 1"
    attempt = rounds()[name].attempt
    good = audit.shown(attempt, 0)
    first, second = good[0], good[1]

    def refused(what: str, check: str, parts: list[Document], data: bytes = attempt.sum) -> None:
        invalid.append(
            {
                "name": what,
                "comment": "",
                "round": name,
                "place": 0,
                "shown": _shown(parts),
                "sum": data,
                "check": check,
            }
        )

    refused("an altered chunk", "audit-chunk", [{**first, "data": bytes(len(first["data"]))}, *good[1:]])
    refused("the chunk of another place", "audit-chunk", [{**first, "data": attempt.updates[1].chunks[1]}, *good[1:]])
    refused("a short path", "audit-chunk", [{**first, "path": first["path"][:-1]}, *good[1:]])
    refused("a member is missing", "audit-cohort", good[1:])
    refused("two changed over", "audit-cohort", [second, first, *good[2:]])
    lied = [{**second["seeds"][0], "seed": drawn("no seed", 32)}, *second["seeds"][1:]]
    refused("a seed that its owner did not commit to", "audit-seeds", [first, {**second, "seeds": lied}, *good[2:]])
    refused("a seed is missing", "audit-seeds", [first, {**second, "seeds": second["seeds"][:1]}, *good[2:]])
    refused("seeds without the trailer", "audit-seeds", [first, {**second, "upload": None}, *good[2:]])
    refused("another member's REVEAL", "audit-seeds", [{**first, "reveal": attempt.reveals[4]}, *good[1:]])
    forged = {**first["reveal"], "self_seed": drawn("no seed", 32)}
    refused("a REVEAL that is not signed", "signature", [{**first, "reveal": forged}, *good[1:]])
    refused("an altered sum", "audit-sum", good, _moved(attempt, {0: 1}))
    return {
        "section": "Audit",
        "comment": "round: of rounds.json; ref: an UPLOAD of that round by index. Without a sum: the round's own.",
        "cases": cases,
        "invalid": invalid,
    }


# ------------------------------------------------------------------------------------------------------------------ wire


def wire_document() -> Document:
    made, attempt = epoch("three"), rounds()["three"].attempt
    following = rounds()["three"].following.digest
    kinds: list[tuple[str, Document]] = [
        ("KeyMessage", made.keys[0]),
        ("Encapsulation", made.encapsulations[0]),
        ("RosterSignature", made.signatures[0]),
        ("Opening", made.openings[0]),
        ("Confirmation", made.confirmations[0]),
        ("Ready", attempt.readies[0]),
        ("Upload", attempt.uploads[1]),
        ("Ack", attempt.acks[0]),
        ("Reveal", attempt.reveals[1]),
        ("RecoverReply", attempt.replies[3, 1]),
        ("Abort", attempt.abort(1)),
        ("Receipt", attempt.receipt(1, following)),
        ("Form", made.form()),
        ("RosterCertificate", made.certificate()),
        ("Openings", made.opened_for(2)),
        ("Confirmations", made.confirmed()),
        ("Announcement", attempt.announcement),
        ("Announcement", rounds()["five, attempt 1"].attempt.announcement),
        ("Announcement", rounds()["four, round 2"].attempt.announcement),
        ("Survivors", attempt.survivors),
        ("Certificate", attempt.certificate),
        ("Recover", attempt.recovers[3, 1]),
        ("AbortRequest", {"epoch": 1, "round": 1, "attempt": 0}),
        ("Reopen", {"epoch": 1, "round": 1, "void": {"attempt": 0, "ready": [1, 2, 3], "certificate": attempt.certificate,
         "proofs": []}}),
        ("Close", attempt.close),
    ]  # fmt: skip
    cases = []
    for kind, fields in kinds:
        number = sum(case["kind"] == kind for case in cases)
        name = kind if not number else f"{kind} {number + 1}"
        cases.append({"name": name, "kind": kind, "fields": fields, "wire": wire.encode(kind, fields)})
    ready, ack, upload, reveal = attempt.readies[0], attempt.acks[0], attempt.uploads[1], attempt.reveals[1]
    reply, receipt, survivors, key = (
        attempt.replies[3, 1],
        attempt.receipt(1, following),
        attempt.survivors,
        made.keys[0],
    )
    entries, boxes = survivors["entries"], upload["boxes"]
    bad: list[tuple[str, str, Document]] = [
        ("a short digest", "Ready", {**ready, "state_digest": bytes(31)}),
        ("a long digest", "Ready", {**ready, "state_digest": bytes(33)}),
        ("no digest", "Ready", {**ready, "state_digest": b""}),
        ("a short signature", "Ack", {**ack, "signature": ack["signature"][:-1]}),
        ("place 0", "Ready", {**ready, "index": 0}),
        ("place 201", "Ready", {**ready, "index": 201}),
        ("round 0", "Ready", {**ready, "round": 0}),
        ("a round beyond 2^31", "Ready", {**ready, "round": 2**31 + 1}),
        ("a cohort of 201", "Ready", {**ready, "min_cohort": 201}),
        ("no weight", "KeyMessage", {**key, "weight": 0}),
        ("a weight beyond 2^40", "KeyMessage", {**key, "weight": 2**41}),
        ("a short encapsulation key", "KeyMessage", {**key, "kem_key": key["kem_key"][:-1]}),
        ("edges not sorted", "Upload", {**upload, "edges": upload["edges"][::-1]}),
        ("an edge twice", "Upload", {**upload, "edges": [2, 2]}),
        ("boxes not sorted", "Upload", {**upload, "boxes": boxes[::-1]}),
        ("a box twice", "Upload", {**upload, "boxes": [boxes[0], boxes[0]]}),
        ("a box above 200 shares", "Upload", {**upload, "boxes": [{**boxes[0], "ciphertext": bytes(33 * 200 + 17)}, boxes[1]]}),
        ("a secret's hash is short", "Upload", {**upload, "secret_hashes": [bytes(31), *upload["secret_hashes"][1:]]}),
        ("a peer twice", "Reveal", {**reveal, "edges": [{"peer": 2, "seed": bytes(32)}, {"peer": 2, "seed": bytes(32)}]}),
        ("peer 0 among the edges", "Reveal", {**reveal, "edges": [{"peer": 0, "seed": bytes(32)}]}),
        ("a seed of 33 bytes", "Reveal", {**reveal, "self_seed": bytes(33)}),
        ("a share of 32 bytes", "RecoverReply", {**reply, "shares": [{"peer": 0, "value": bytes(32)}]}),
        ("a share twice", "RecoverReply", {**reply, "shares": [reply["shares"][0], reply["shares"][0]]}),
        ("owner 0", "RecoverReply", {**reply, "owner": 0}),
        ("a figure beyond 2^62", "Receipt", {**receipt, "figures": [2**62 + 1, 0]}),
        ("201 figures", "Receipt", {**receipt, "figures": [0] * 201}),
        ("survivors not sorted", "Survivors", {**survivors, "entries": entries[::-1]}),
        ("a survivor twice", "Survivors", {**survivors, "entries": [entries[0], entries[0]]}),
        ("ACKs not sorted", "Certificate", {**attempt.certificate, "acks": attempt.acks[::-1]}),
        ("an ACK twice", "Certificate", {**attempt.certificate, "acks": [attempt.acks[0], attempt.acks[0]]}),
        ("201 edges", "Upload", {**upload, "edges": [min(i, 200) for i in range(1, 202)]}),
        ("READYs not sorted", "Announcement", {**attempt.announcement, "readies": attempt.readies[::-1]}),
        ("a READY twice", "Announcement", {**attempt.announcement, "readies": [ready, ready]}),
        ("a certificate without survivors", "Certificate", {**attempt.certificate, "survivors": None}),
        ("a close without certificate", "Close", {**attempt.close, "certificate": None}),
        ("an empty sum", "Close", {**attempt.close, "sum_size": 0}),
        ("a void without certificate", "Reopen", {"epoch": 1, "round": 1, "void": {"attempt": 0, "ready": [1, 2, 3],
         "certificate": None, "proofs": []}}),
        ("R_r of a void not sorted", "Reopen",
         {"epoch": 1, "round": 1, "void": {"attempt": 0, "ready": [2, 1, 3], "certificate": attempt.certificate, "proofs": []}}),
    ]  # fmt: skip
    invalid = [
        {
            "name": f"{kind}: {what}",
            "comment": "",
            "kind": kind,
            "wire": wire.encode(kind, fields),
            "check": "malformed-message",
        }
        for what, kind, fields in bad
    ]
    return {
        "section": "Wire",
        "comment": "fields and their one deterministic encoding. Invalid: refused before a signature is looked at.",
        "cases": cases,
        "invalid": invalid,
    }
