"""Protobuf's wire format for the messages of ``protos/federation/v1/rounds.proto``, in their one deterministic encoding: fields in
the order of their numbers, those that have their default left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIELDS: dict[str, list[tuple[int, str, str]]] = {
    "KeyMessage": [
        (1, "epoch", "int"), (2, "formation", "int"), (3, "predecessor", "bytes"), (4, "credential", "bytes"),
        (5, "exchange_key", "bytes"), (6, "kem_key", "bytes"), (7, "nonce_hash", "bytes"), (8, "group_hash", "bytes"),
        (9, "weight", "int"), (10, "signature", "bytes"),
    ],
    "Encapsulation": [
        (1, "index", "int"), (2, "keys_hash", "bytes"), (3, "hashes", "bytes*"), (4, "ciphertexts", "bytes*"),
        (5, "signature", "bytes"),
    ],
    "RosterSignature": [(1, "index", "int"), (2, "roster_hash", "bytes"), (3, "signature", "bytes")],
    "Opening": [
        (1, "index", "int"), (2, "roster_hash", "bytes"), (3, "nonce", "bytes"), (4, "boxes", "Box*"), (5, "signature", "bytes"),
    ],
    "Confirmation": [
        (1, "index", "int"), (2, "roster_hash", "bytes"), (3, "beacon", "bytes"), (4, "group_hash", "bytes"),
        (5, "signature", "bytes"),
    ],
    "Ready": [
        (1, "index", "int"), (2, "epoch", "int"), (3, "round", "int"), (4, "attempt", "int"), (5, "state_digest", "bytes"),
        (6, "min_cohort", "int"), (7, "signature", "bytes"),
    ],
    "Box": [(1, "holder", "int"), (2, "ciphertext", "bytes")],
    "Upload": [
        (1, "index", "int"), (2, "context", "bytes"), (3, "root", "bytes"), (4, "boxes", "Box*"), (5, "edges", "int*"),
        (6, "secret_hashes", "bytes*"), (7, "share_hashes", "bytes*"), (8, "signature", "bytes"),
    ],
    "Ack": [(1, "index", "int"), (2, "context", "bytes"), (3, "survivors_digest", "bytes"), (4, "signature", "bytes")],
    "EdgeSeed": [(1, "peer", "int"), (2, "seed", "bytes")],
    "Reveal": [
        (1, "index", "int"), (2, "context", "bytes"), (3, "self_seed", "bytes"), (4, "edges", "EdgeSeed*"),
        (5, "signature", "bytes"),
    ],
    "Share": [(1, "peer", "int"), (2, "value", "bytes")],
    "RecoverReply": [
        (1, "index", "int"), (2, "context", "bytes"), (3, "owner", "int"), (4, "shares", "Share*"), (5, "signature", "bytes"),
    ],
    "Abort": [(1, "index", "int"), (2, "epoch", "int"), (3, "round", "int"), (4, "attempt", "int"), (5, "signature", "bytes")],
    "Receipt": [
        (1, "index", "int"), (2, "epoch", "int"), (3, "round", "int"), (4, "context", "bytes"),
        (5, "survivors_digest", "bytes"), (6, "state_digest", "bytes"), (7, "figures", "sint*"), (8, "signature", "bytes"),
    ],
    "Sealing": [
        (1, "index", "int"), (2, "epoch", "int"), (3, "state_digest", "bytes"), (4, "sealed_blob", "bytes"),
        (5, "wrapped", "bytes*"), (6, "signature", "bytes"),
    ],
    "Form": [(1, "epoch", "int"), (2, "formation", "int"), (3, "predecessor", "bytes")],
    "Candidates": [(1, "epoch", "int"), (2, "formation", "int"), (3, "keys", "KeyMessage*")],
    "Roster": [
        (1, "epoch", "int"), (2, "formation", "int"), (3, "keys", "KeyMessage*"), (4, "encapsulations", "Encapsulation*"),
        (5, "ciphertexts", "bytes*"),
    ],
    "RosterCertificate": [(1, "epoch", "int"), (2, "roster_hash", "bytes"), (3, "signatures", "RosterSignature*")],
    "Openings": [(1, "epoch", "int"), (2, "roster_hash", "bytes"), (3, "openings", "Opening*")],
    "Confirmations": [(1, "epoch", "int"), (2, "roster_hash", "bytes"), (3, "confirmations", "Confirmation*")],
    "Announcement": [
        (1, "epoch", "int"), (2, "round", "int"), (3, "attempt", "int"), (4, "readies", "Ready*"), (5, "receipts", "Receipt*"),
        (6, "aborts", "Abort*"), (7, "void", "Void"),
    ],
    "Void": [(1, "attempt", "int"), (2, "ready", "int*"), (3, "certificate", "Certificate"), (4, "proofs", "bytes*")],
    "Reopen": [(1, "epoch", "int"), (2, "round", "int"), (3, "void", "Void")],
    "SurvivorEntry": [(1, "index", "int"), (2, "root", "bytes"), (3, "trailer_hash", "bytes"), (4, "signature", "bytes")],
    "Survivors": [(1, "context", "bytes"), (2, "entries", "SurvivorEntry*")],
    "Certificate": [(1, "survivors", "Survivors"), (2, "acks", "Ack*")],
    "Recover": [(1, "certificate", "Certificate"), (2, "owner", "int"), (3, "edges", "int*"), (4, "box", "bytes")],
    "AbortRequest": [(1, "epoch", "int"), (2, "round", "int"), (3, "attempt", "int")],
    "Lineage": [(1, "roster", "Roster"), (2, "confirmations", "Confirmations")],
    "CatchUp": [
        (1, "epoch", "int"), (2, "round", "int"), (3, "state_digest", "bytes"), (4, "state_blob", "bytes"),
        (5, "receipts", "Receipt*"),
    ],
    "ProvideState": [(1, "epoch", "int"), (2, "round", "int"), (3, "state_digest", "bytes")],
    "Close": [
        (1, "round", "int"), (2, "context", "bytes"), (3, "survivors_digest", "bytes"), (4, "sum_blob", "bytes"),
        (5, "sum_size", "int"), (7, "certificate", "Certificate"),
    ],
}  # fmt: skip
"""kind -> (number, name, type); ``*``: any number of them"""


def varint(number: int) -> bytes:
    found = b""
    while number >= 128:
        found += bytes([number % 128 + 128])
        number //= 128
    return found + bytes([number])


def _zigzag(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def _bytes(number: int, data: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(data)) + data


def encode(kind: str, message: Mapping[str, Any]) -> bytes:
    found = b""
    for number, name, type_ in FIELDS[kind]:
        value = message[name]
        if type_ in ("int*", "sint*"):
            packed = b"".join(varint(each if type_ == "int*" else _zigzag(each)) for each in value)
            found += _bytes(number, packed) if value else b""
        elif type_ == "int":
            found += varint(number * 8) + varint(value) if value else b""
        elif type_ == "bytes":
            found += _bytes(number, value) if value else b""
        elif type_ == "bytes*":
            found += b"".join(_bytes(number, each) for each in value)
        elif type_.endswith("*"):
            found += b"".join(_bytes(number, encode(type_[:-1], each)) for each in value)
        elif value is not None:
            found += _bytes(number, encode(type_, value))
    return found
