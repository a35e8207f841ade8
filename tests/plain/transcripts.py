"""Page: "Transcripts". What is hashed and what is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

Field = bytes | str | int | Sequence["Field"]
Message = Mapping[str, Any]


def encoded(field: Field) -> bytes:
    if isinstance(field, bytes):
        return field
    if isinstance(field, str):
        return field.encode("utf-8")
    if isinstance(field, int):
        return field.to_bytes(8, "big")
    return b"".join(framed(item) for item in field)


def framed(field: Field) -> bytes:
    data = encoded(field)
    return len(data).to_bytes(8, "big") + data


def transcript(label: str, *fields: Field) -> bytes:
    return b"concord/secagg/v1/" + label.encode("ascii") + b"\x00" + b"".join(framed(field) for field in fields)


def digest(label: str, *fields: Field) -> bytes:
    return hashlib.sha256(transcript(label, *fields)).digest()


def key_text(job: bytes, key: Message) -> bytes:
    return transcript(
        "key", job, key["epoch"], key["formation"], key["predecessor"], key["credential"], key["exchange_key"],
        key["kem_key"], key["nonce_hash"], key["group_hash"], key["weight"],
    )  # fmt: skip


def keys_hash(job: bytes, keys: Sequence[Message]) -> bytes:
    return digest("keys", [[key_text(job, key), key["signature"]] for key in keys])


def encapsulation_text(job: bytes, said: Message) -> bytes:
    return transcript("encapsulation", job, said["keys_hash"], said["index"], said["hashes"])


def roster_hash(job: bytes, keys: bytes, encapsulations: Sequence[Message]) -> bytes:
    return digest("roster", job, keys, [[encapsulation_text(job, each), each["signature"]] for each in encapsulations])


def roster_text(job: bytes, epoch: int, said: Message) -> bytes:
    return transcript("roster-signature", job, epoch, said["roster_hash"], said["index"])


def opening_text(job: bytes, said: Message) -> bytes:
    return transcript("opening", job, said["roster_hash"], said["index"], said["nonce"])


def confirmation_text(job: bytes, said: Message) -> bytes:
    return transcript("confirm", job, said["roster_hash"], said["index"], said["beacon"], said["group_hash"])


def context(
    job: bytes, epoch: int, roster: bytes, ready: Sequence[int], round_: int, attempt: int, state: bytes
) -> bytes:
    return digest("context", job, epoch, roster, list(ready), round_, attempt, state)


def ready_text(job: bytes, roster: bytes, said: Message) -> bytes:
    return transcript(
        "ready", job, said["epoch"], roster, said["index"], said["round"], said["attempt"], said["state_digest"],
        said["min_cohort"],
    )  # fmt: skip


def trailer_hash(upload: Message) -> bytes:
    return digest(
        "trailer", [[box["holder"], box["ciphertext"]] for box in upload["boxes"]], upload["edges"],
        upload["secret_hashes"], upload["share_hashes"],
    )  # fmt: skip


def upload_text(context_: bytes, index: int, root: bytes, trailer: bytes) -> bytes:
    return transcript("upload", context_, index, root, trailer)


def survivors_hash(survivors: Message) -> bytes:
    entries = [[each["index"], each["root"], each["trailer_hash"], each["signature"]] for each in survivors["entries"]]
    return digest("survivors", survivors["context"], entries)


def ack_text(said: Message) -> bytes:
    return transcript("ack", said["context"], said["survivors_digest"], said["index"])


def reveal_text(said: Message) -> bytes:
    edges = [[each["peer"], each["seed"]] for each in said["edges"]]
    return transcript("reveal", said["context"], said["index"], said["self_seed"], edges)


def recover_text(said: Message) -> bytes:
    shares = [[each["peer"], each["value"]] for each in said["shares"]]
    return transcript("recover", said["context"], said["index"], said["owner"], shares)


def abort_text(job: bytes, roster: bytes, said: Message) -> bytes:
    return transcript("abort", job, said["epoch"], roster, said["index"], said["round"], said["attempt"])


def receipt_text(job: bytes, roster: bytes, said: Message) -> bytes:
    figures = [figure.to_bytes(8, "big", signed=True) for figure in said["figures"]]
    return transcript(
        "receipt", job, said["epoch"], roster, said["index"], said["round"], said["context"],
        said["survivors_digest"], said["state_digest"], figures,
    )  # fmt: skip


def sealing_text(job: bytes, roster: bytes, said: Message) -> bytes:
    return transcript(
        "sealing", job, said["epoch"], roster, said["index"], said["state_digest"], said["sealed_blob"], said["wrapped"]
    )
