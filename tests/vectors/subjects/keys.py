"""keys, boxes: what two members, or all of them, derive, and what is sealed under it."""

from __future__ import annotations

from typing import Any

from tests.plain import attempt as a
from tests.plain import transcripts as t
from tests.plain.ciphers import agree, decapsulate, expand, public_keys, seal
from tests.plain.setup import encapsulation_draw, part_key, ratcheted
from tests.vectors.subjects.federations import JOB, epoch, rounds

Document = dict[str, Any]


def key_document() -> Document:
    made, ctx = epoch("three"), rounds()["three"].attempt.context
    br, ke = made.members[0], made.members[2]
    ciphertext = made.encapsulations[0]["ciphertexts"][1]
    agreed, secret = agree(br.private, made.keys[2]["exchange_key"]), made.kem_secrets[1, 3]
    altered = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    exchange, kem = public_keys(ke.private)
    root, group = made.roots[1, 3], made.group_key

    def derived(name: str, key: str, base: bytes, info: bytes, comment: str = "") -> Document:
        return {
            "name": name,
            "comment": comment,
            "kind": "expand",
            "of": key,
            "key": base,
            "info": info,
            "out": expand(base, info),
        }

    cases: list[Document] = [
        {"name": "a member's public keys", "comment": "private: X25519 scalar, then ML-KEM-768 seed d || z.", "kind": "public",
         "private": ke.private, "exchange_key": exchange, "kem_key": kem},
        {"name": "X25519, members 1 and 3", "comment": "", "kind": "agree", "private": br.private, "exchange_key": exchange,
         "out": agreed},
        {"name": "ML-KEM-768, member 1 to member 3",
         "comment": "draw: the 32 bytes m that ML-KEM.Encaps draws; an implementation that cannot set them decapsulates.",
         "kind": "decapsulate", "private": ke.private, "kem_key": kem, "draw": encapsulation_draw("br", "ke"),
         "ciphertext": ciphertext, "out": secret},
        {"name": "an altered ciphertext",
         "comment": "Implicit rejection: another secret, no error. The part that is sealed under it will not open.",
         "kind": "decapsulate", "private": ke.private, "ciphertext": altered, "out": decapsulate(ke.private, altered)},
        {"name": "K_13 of round 1", "comment": "Extract of X25519 || ML-KEM with salt RH, then expand.", "kind": "pair",
         "agreed": agreed, "encapsulated": secret, "roster_hash": made.roster_hash, "one": 1, "other": 3, "out": root},
        {"name": "KG of round 1", "comment": "", "kind": "group", "parts": [member.part for member in made.members],
         "roster_hash": made.roster_hash, "out": group},
        derived("K_13 of round 2", "ratchet", root, t.transcript("ratchet", 2)),
        derived("K_13 of round 3", "ratchet", ratcheted(root, 2), t.transcript("ratchet", 3)),
        derived("KG of round 2", "ratchet", group, t.transcript("ratchet", 2)),
        derived("s_13", "mask", root, t.transcript("mask", ctx)),
        derived("g_1", "blind", group, t.transcript("blind", ctx, 1)),
        derived("key of the sum MAC", "tag", group, t.transcript("tag", ctx)),
        derived("pad of member 3", "pad", group, t.transcript("pad", ctx, 3)),
        derived("key of member 1's box for member 3", "box", root, t.transcript("box", ctx, 1, 3)),
        derived("key of member 3's box for member 1", "box", root, t.transcript("box", ctx, 3, 1)),
        derived("key of member 1's part for member 3", "part", root, t.transcript("part", 1, 3)),
        derived("key of a state's file", "state-file", ratcheted(group, 2), t.transcript("state-file",
         rounds()["three"].following.digest),
                "KG of round 2, of which the state is the input."),
        {"name": "commitment to a nonce", "comment": "", "kind": "nonce-hash", "job": JOB, "member": ke.id, "secret": ke.nonce,
         "out": made.keys[2]["nonce_hash"]},
        {"name": "commitment to a part of KG", "comment": "", "kind": "part-hash", "job": JOB, "member": ke.id, "secret": ke.part,
         "out": made.keys[2]["group_hash"]},
        {"name": "beacon", "comment": "", "kind": "beacon", "roster_hash": made.roster_hash,
         "nonces": [member.nonce for member in made.members], "out": made.beacon},
        {"name": "hash of KG", "comment": "", "kind": "group-hash", "key": group, "out": made.confirmations[0]["group_hash"]},
    ]  # fmt: skip
    invalid = [
        {"name": "a point of small order", "comment": "Zero: every secret with it is zero.", "kind": "agree", "private": br.private,
         "exchange_key": bytes(32), "check": "exchange-key"},
        {"name": "an encapsulation key that is not reduced", "comment": "A coefficient is 4095, above q (FIPS 203, section 7.2).",
         "kind": "encapsulate", "kem_key": b"\xff" * 3 + kem[3:], "check": "encapsulation-key"},
        {"name": "a short encapsulation key", "comment": "", "kind": "encapsulate", "kem_key": kem[:-1],
         "check": "encapsulation-key"},
    ]  # fmt: skip
    return {
        "section": "Setup",
        "comment": "Members and round of setup.json, rounds.json, \"three\". kind expand: HKDF-Expand-SHA256(key, info), 32 "
        "bytes; info is a "
        "transcript; of: its label.",
        "cases": cases,
        "invalid": invalid,
    }  # fmt: skip


def box_document() -> Document:
    made, attempt = epoch("three"), rounds()["three"].attempt
    ctx, roster = attempt.context, made.roster_hash
    upload, edges = attempt.uploads[3], attempt.edges(3)
    sealed = upload["boxes"][0]["ciphertext"]
    root, part = made.roots[1, 3], made.openings[2]["boxes"][0]["ciphertext"]
    shares = [each[1] for each in attempt.shares[3]]
    cases = [
        {"name": "shares of member 3 for member 1", "comment": "Of b, then of the edges.", "kind": "shares", "root": root,
         "context": ctx, "owner": 3, "holder": 1, "edges": edges, "shares": shares, "ciphertext": sealed},
        {"name": "part of KG of member 3 for member 1", "comment": "", "kind": "part", "root": root, "roster_hash": roster,
         "owner": 3,
         "holder": 1, "part": made.members[2].part, "ciphertext": part},
    ]  # fmt: skip
    good = {
        "kind": "shares",
        "root": root,
        "context": ctx,
        "owner": 3,
        "holder": 1,
        "edges": edges,
        "ciphertext": sealed,
    }
    short = seal(a.box_key(made, ctx, 3, 1, 1), b"".join(shares)[:-1], a.box_data(ctx, 3, 1, edges))
    flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
    other = rounds()["five, aborted"].attempt.context
    invalid = [
        {"name": "another owner", "comment": "", **good, "owner": 2, "check": "box"},
        {"name": "another holder", "comment": "", **good, "holder": 2, "check": "box"},
        {"name": "owner and holder changed over", "comment": "", **good, "owner": 1, "holder": 3, "check": "box"},
        {"name": "another attempt", "comment": "", **good, "context": other, "check": "box"},
        {"name": "other edges", "comment": "They are bound as associated data.", **good, "edges": [1, 3], "check": "box"},
        {"name": "another pair's key", "comment": "", **good, "root": made.roots[1, 2], "check": "box"},
        {"name": "next round's key", "comment": "", **good, "root": ratcheted(root, 2), "check": "box"},
        {"name": "a flipped bit", "comment": "", **good, "ciphertext": flipped, "check": "box"},
        {"name": "cut off", "comment": "", **good, "ciphertext": sealed[:-1], "check": "box"},
        {"name": "opens, and holds a byte too few", "comment": "33 bytes for each share.", **good, "ciphertext": short,
         "check": "box"},
        {"name": "a part for another holder", "comment": "", "kind": "part", "root": root, "roster_hash": roster,
         "owner": 3, "holder": 2,
         "ciphertext": part, "check": "group-part"},
        {"name": "a part of another roster", "comment": "", "kind": "part", "root": root, "roster_hash": bytes(32), "owner": 3,
         "holder": 1, "ciphertext": part, "check": "group-part"},
        {"name": "a part under another key", "comment": "What a swapped ML-KEM ciphertext leads to.", "kind": "part",
         "root": part_key(root, 1, 3), "roster_hash": roster, "owner": 3, "holder": 1, "ciphertext": part, "check": "group-part"},
    ]  # fmt: skip
    return {"section": "Bytes", "comment": "root: K_13 of round 1.", "cases": cases, "invalid": invalid}
