"""quorums, transcripts, shares, keystreams, merkle: what needs no federation."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.plain import merkle, shamir
from tests.plain import transcripts as t
from tests.plain.ciphers import AES_256_CTR, CHACHA20, HEADER, drawn, keystream, words
from tests.plain.quorums import level_bound, quorums

Document = dict[str, Any]


def quorum_document() -> Document:
    cases = []
    for n in range(3, 201):
        found = quorums(n)
        bounds = {str(bits): level_bound(bits, n) for bits in (8, 16, 32)}
        cases.append({"name": f"n = {n}", "n": n, "f": found.f, "q": found.q, "t": found.t, "m": found.m, "L": bounds})
    invalid = [
        {"name": "two members", "comment": "A sum of two gives each the other's update.", "n": 2, "error": "invalid-manifest"},
        {"name": "201 members", "comment": "Beyond what the complete graph is meant for.", "n": 201, "error": "invalid-manifest"},
    ]  # fmt: skip
    return {"section": "Parameters", "comment": "L by ring bits.", "cases": cases, "invalid": invalid}


def _typed(field: Any) -> Any:
    if isinstance(field, bytes):
        return {"bytes": field}
    if isinstance(field, str):
        return {"text": field}
    if isinstance(field, int):
        return {"int": field}
    return {"list": [_typed(each) for each in field]}


def transcript_document() -> Document:
    def some(name: str, size: int = 32) -> bytes:
        return drawn(f"transcript/{name}", size)

    ctx, job, roster = some("ctx"), some("job"), some("roster")
    samples: list[tuple[str, list[Any]]] = [
        ("key", [job, 1, 0, bytes(32), b"credential", some("x25519"), some("kem", 40), some("n"), some("g"), 4]),
        ("nonce", [job, "br", some("nonce")]),
        ("group-part", [job, "br", some("part")]),
        ("keys", [[[some("text", 50), some("signature", 64)], [some("text 2", 50), some("signature 2", 64)]]]),
        ("ciphertext", [some("keys"), 1, 3, some("ciphertext", 40)]),
        ("encapsulation", [job, some("keys"), 1, [some("hash 2"), some("hash 3")]]),
        ("roster", [job, some("keys"), [[some("text", 50), some("signature", 64)]]]),
        ("roster-signature", [job, 1, roster, 2]),
        ("opening", [job, roster, 2, some("nonce")]),
        ("beacon", [roster, [some("nonce"), some("nonce 2"), some("nonce 3")]]),
        ("confirm-group", [some("KG")]),
        ("confirm", [job, roster, 2, some("beacon"), some("group hash")]),
        ("context", [job, 1, roster, [1, 2, 3], 7, 0, some("state")]),
        ("ready", [job, 1, roster, 2, 7, 0, some("state"), 3]),
        ("trailer", [[[2, some("box", 40)], [3, some("box 3", 40)]], [2, 3], [some("b"), some("s")], [some("h"), some("i")]]),
        ("upload", [ctx, 2, some("root"), some("trailer")]),
        ("survivors", [ctx, [[1, some("root"), some("trailer"), some("signature", 64)]]]),
        ("ack", [ctx, some("survivors"), 2]),
        ("reveal", [ctx, 2, some("b"), [[3, some("s")]]]),
        ("recover", [ctx, 1, 2, [[0, some("share", 33)], [3, some("share 3", 33)]]]),
        ("abort", [job, 1, roster, 2, 7, 0]),
        ("receipt", [job, 1, roster, 2, 7, ctx, some("survivors"), some("state"),
                     [(-5).to_bytes(8, "big", signed=True), (2**32).to_bytes(8, "big", signed=True)]]),
        ("secret", [ctx, 2, 0, some("b")]),
        ("share", [ctx, 2, 3, 0, some("share", 33)]),
        ("sealing", [job, 1, roster, 2, some("state"), some("blob"), [some("wrapped", 40)]]),
        ("pair", [1, 2]),
        ("group", []),
        ("ratchet", [2]),
        ("part", [1, 2]),
        ("part-data", [roster, 1, 2]),
        ("mask", [ctx]),
        ("blind", [ctx, 2]),
        ("tag", [ctx]),
        ("pad", [ctx, 2]),
        ("state-file", [some("state")]),
        ("box", [ctx, 1, 2]),
        ("box-data", [ctx, 1, 2, [2, 3]]),
    ]  # fmt: skip
    cases = []
    for label, fields in samples:
        text = t.transcript(label, *fields)
        cases.append(
            {
                "name": label,
                "fields": [_typed(each) for each in fields],
                "transcript": text,
                "sha256": hashlib.sha256(text).digest(),
            }
        )
    edge: list[tuple[str, str, list[Any]]] = [
        ("no fields", "Only the domain, the label and its zero byte.", []),
        ("an empty field is not a missing one", "Length 0.", [b""]),
        (
            "an empty list is an empty field",
            "The same bytes as an empty byte string: kinds are fixed by the label.",
            [[]],
        ),
        ("two fields", "Lengths keep them apart from the one field that follows.", [b"ab", b"c"]),
        ("one field", "", [b"abc"]),
        ("largest integer", "2^64 - 1.", [2**64 - 1]),
        ("text", "UTF-8, no normalisation.", ["ação"]),
    ]
    for name, comment, fields in edge:
        text = t.transcript("edge", *fields)
        cases.append(
            {"name": name, "comment": comment, "label": "edge", "fields": [_typed(each) for each in fields],
             "transcript": text, "sha256": hashlib.sha256(text).digest()}
        )  # fmt: skip
    truncated = t.transcript("ack", ctx, some("survivors"), 2)
    invalid = [
        {"name": "short", "comment": "The last field lacks a byte.", "transcript": truncated[:-1], "error": "verification-failed"},
        {"name": "long", "comment": "A byte follows the last field.", "transcript": truncated + b"\x00",
         "error": "verification-failed"},
        {"name": "no zero after the label", "comment": "", "transcript": b"concord/secagg/v1/ack", "error": "verification-failed"},
        {"name": "another domain", "comment": "", "transcript": b"concord/secagg/v2/ack\x00", "error": "verification-failed"},
    ]  # fmt: skip
    return {
        "section": "Transcripts",
        "comment": "A field is typed: int, text, bytes, or a list of fields. A case without a label has its name as the label. "
        "Invalid: bytes that claim to be a transcript, as in a conviction.",
        "cases": cases,
        "invalid": invalid,
    }


def share_document() -> Document:
    cases = []
    for name, secret, threshold, holders in (
        ("n = 3, owner 1", drawn("shares/1", 32), 2, [2, 3]),
        ("n = 7, owner 4", drawn("shares/4", 32), 5, [1, 2, 3, 5, 6, 7]),
        ("zero", bytes(32), 2, [1, 2]),
        ("the largest secret", b"\xff" * 32, 3, [1, 2, 200]),
    ):
        numbers = [drawn(f"shares/{name}/{power}", 48) for power in range(1, threshold)]
        shares = shamir.split(secret, [int.from_bytes(each, "big") % shamir.P for each in numbers], holders)
        cases.append(
            {
                "name": name,
                "threshold": threshold,
                "secret": secret,
                "coefficient draws": numbers,
                "shares": [{"holder": holder, "share": share} for holder, share in shares.items()],
            }
        )
    big = shamir.split(b"\xff" * 32, [5], [1, 2])
    above = {x: ((int.from_bytes(share, "big") + 1) % shamir.P).to_bytes(33, "big") for x, share in big.items()}
    invalid = [
        {
            "name": "a value above 2^256 - 1",
            "comment": "The dealer split 2^256: no seed of 32 bytes.",
            "threshold": 2,
            "shares": [{"holder": x, "share": share} for x, share in above.items()],
            "check": "secret-range",
        }
    ]
    return {
        "section": "Shares",
        "comment": "Coefficient draws: 48 bytes each, big-endian, mod p; of x, x^2 and so on. Any threshold of the shares "
        "rebuild the secret.",
        "cases": cases,
        "invalid": invalid,
    }  # fmt: skip


def keystream_document() -> Document:
    cases = []
    for cipher in (AES_256_CTR, CHACHA20):
        for name, seed, index in (
            ("zero key, chunk 0", bytes(32), 0),
            ("chunk 0", drawn("keystream", 32), 0),
            ("chunk 1", drawn("keystream", 32), 1),
            ("chunk 2^32", drawn("keystream", 32), 2**32),
            ("header", drawn("keystream", 32), HEADER),
        ):
            cases.append(
                {
                    "name": f"{cipher}: {name}",
                    "cipher": cipher,
                    "seed": seed,
                    "index": str(index),
                    "keystream": keystream(seed, index, 80, cipher),
                    "words": {str(bits): [str(word) for word in words(seed, index, 3, bits, cipher)] for bits in (8, 16, 32, 64)},
                }
            )  # fmt: skip
    return {
        "section": "Masks",
        "comment": "The first 80 bytes; words: the first three, by bits.",
        "cases": cases,
        "invalid": [],
    }


def merkle_document() -> Document:
    cases, chunks = [], [drawn(f"merkle/{place}", 3 + place) for place in range(7)]
    for leaves in range(1, 8):
        held = chunks[:leaves]
        cases.append(
            {
                "name": f"{leaves} leaves",
                "leaves": held,
                "root": merkle.root(held),
                "paths": [merkle.path(held, place) for place in range(leaves)],
            }
        )
    held = chunks[:5]
    path = merkle.path(held, 2)
    invalid = [
        {"name": "another leaf", "comment": "", "leaf": chunks[1], "place": 2, "leaves": 5, "path": path},
        {"name": "another place", "comment": "", "leaf": chunks[2], "place": 3, "leaves": 5, "path": path},
        {"name": "short path", "comment": "", "leaf": chunks[2], "place": 2, "leaves": 5, "path": path[:-1]},
        {"name": "long path", "comment": "", "leaf": chunks[2], "place": 2, "leaves": 5, "path": [*path, bytes(32)]},
        {"name": "a node as a leaf", "comment": "Leaves and nodes are hashed apart.",
         "leaf": merkle.leaf(held[0]) + merkle.leaf(held[1]),
         "place": 0, "leaves": 3, "path": [merkle.node(merkle.leaf(held[2]), merkle.leaf(held[3])), merkle.leaf(held[4])]},
    ]  # fmt: skip
    return {
        "section": "A round",
        "comment": 'RFC 6962. Invalid: a path that MUST NOT give the root of the first leaves of case "5 leaves".',
        "cases": cases,
        "invalid": [{**each, "root": merkle.root(held), "check": "audit-chunk"} for each in invalid],
    }
