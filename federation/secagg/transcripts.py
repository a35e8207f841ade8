"""Every input of a hash or a signature: a domain label and length-prefixed fields, so that no two inputs read alike.

An input is ``"concord/secagg/v1/" label 0x00`` and then for each field its length (8 bytes, big-endian) and its bytes.
Integers are 8 bytes big-endian, text is UTF-8, a sequence is one field that holds the encoding of its items. Sets come
sorted by index. (docs/protocol/secure-aggregation.md, "Transcripts".)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from federation.errors import VerificationFailed
from federation.secagg.messages import (
    Abort,
    Ack,
    Confirmation,
    Encapsulation,
    KeyMessage,
    Opening,
    Ready,
    Receipt,
    RecoverReply,
    Reveal,
    Sealing,
    Survivors,
    Trailer,
)

DOMAIN: Final = b"concord/secagg/v1/"

Field = bytes | str | int | Sequence["Field"]


def _bytes_of(field: Field) -> bytes:
    if isinstance(field, bytes):
        return field
    if isinstance(field, str):
        return field.encode()
    if isinstance(field, int):
        return field.to_bytes(8, "big")
    return _prefixed(field)


def _prefixed(fields: Sequence[Field]) -> bytes:
    parts: list[bytes] = []
    for field in fields:
        data = field if isinstance(field, bytes) else _bytes_of(field)
        parts += (len(data).to_bytes(8, "big"), data)
    return b"".join(parts)


def transcript(label: str, *fields: Field) -> bytes:
    return DOMAIN + label.encode() + b"\x00" + _prefixed(fields)


def fields_of(text: bytes) -> tuple[str, tuple[bytes, ...]]:
    """The label and the fields, as bytes, of a transcript. Raises VerificationFailed for what is none."""
    label, zero, rest = text.removeprefix(DOMAIN).partition(b"\x00")
    fields, at = [], 0
    while at + 8 <= len(rest) and at + 8 + (size := int.from_bytes(rest[at : at + 8], "big")) <= len(rest):
        fields.append(rest[at + 8 : at + 8 + size])
        at += 8 + size
    if not text.startswith(DOMAIN) or not zero or at != len(rest) or not label.isascii():
        raise VerificationFailed("These bytes are no transcript of the protocol.")
    return label.decode("ascii"), tuple(fields)


def digest(label: str, *fields: Field) -> bytes:
    return hashlib.sha256(transcript(label, *fields)).digest()


# ------------------------------------------------------------------------------------------------------------ formation


def key_transcript(job: bytes, message: KeyMessage) -> bytes:
    return transcript(
        "key",
        job,
        message.epoch,
        message.formation,
        message.predecessor,
        message.credential,
        message.exchange_key,
        message.kem_key,
        message.nonce_hash,
        message.group_hash,
        message.weight,
    )


def nonce_hash(job: bytes, member: str, nonce: bytes) -> bytes:
    """``member``: its id, since a candidate has no index yet."""
    return digest("nonce", job, member, nonce)


def group_part_hash(job: bytes, member: str, part: bytes) -> bytes:
    return digest("group-part", job, member, part)


def keys_hash(job: bytes, keys: Sequence[KeyMessage]) -> bytes:
    """Over every key message whole, signatures included, in the order of the roster."""
    return digest("keys", [[key_transcript(job, key), key.signature] for key in keys])


def ciphertext_hash(keys: bytes, sender: int, receiver: int, ciphertext: bytes) -> bytes:
    return digest("ciphertext", keys, sender, receiver, ciphertext)


def encapsulation_transcript(job: bytes, message: Encapsulation) -> bytes:
    return transcript("encapsulation", job, message.keys_hash, message.index, list(message.hashes))


def roster_hash(job: bytes, keys: bytes, encapsulations: Sequence[Encapsulation]) -> bytes:
    """RH: over every message of the setup so far. ``keys``: their hash."""
    return digest(
        "roster", job, keys, [[encapsulation_transcript(job, each), each.signature] for each in encapsulations]
    )


def roster_transcript(job: bytes, epoch: int, index: int, roster: bytes) -> bytes:
    return transcript("roster-signature", job, epoch, roster, index)


def opening_transcript(job: bytes, message: Opening) -> bytes:
    """The boxes are authenticated by their ciphers, for their holders alone."""
    return transcript("opening", job, message.roster_hash, message.index, message.nonce)


def beacon(roster: bytes, nonces: Sequence[bytes]) -> bytes:
    return digest("beacon", roster, list(nonces))


def group_key_hash(group_key: bytes) -> bytes:
    return digest("confirm-group", group_key)


def confirmation_transcript(job: bytes, message: Confirmation) -> bytes:
    return transcript("confirm", job, message.roster_hash, message.index, message.beacon, message.group_hash)


# --------------------------------------------------------------------------------------------------------------- rounds


def context(
    job: bytes, epoch: int, roster: bytes, ready: Sequence[int], round_number: int, attempt: int, state: bytes
) -> bytes:
    """ctx. ``job`` is the manifest's digest, so the manifest is bound with it."""
    return digest("context", job, epoch, roster, list(ready), round_number, attempt, state)


def ready_transcript(job: bytes, roster: bytes, ready: Ready) -> bytes:
    return transcript(
        "ready",
        job,
        ready.epoch,
        roster,
        ready.index,
        ready.round,
        ready.attempt,
        ready.state_digest,
        ready.min_cohort,
    )


def trailer_hash(trailer: Trailer) -> bytes:
    return digest(
        "trailer",
        [[box.holder, box.ciphertext] for box in trailer.boxes],
        list(trailer.edges),
        list(trailer.secret_hashes),
        list(trailer.share_hashes),
    )


def upload_transcript(context_: bytes, index: int, root: bytes, trailer: bytes) -> bytes:
    return transcript("upload", context_, index, root, trailer)


def survivors_digest(survivors: Survivors) -> bytes:
    return digest(
        "survivors",
        survivors.context,
        [[entry.index, entry.root, entry.trailer_hash, entry.signature] for entry in survivors.entries],
    )


def ack_transcript(ack: Ack) -> bytes:
    return transcript("ack", ack.context, ack.survivors_digest, ack.index)


def reveal_transcript(reveal: Reveal) -> bytes:
    return transcript(
        "reveal", reveal.context, reveal.index, reveal.self_seed, [[peer, seed] for peer, seed in reveal.edges]
    )


def recover_transcript(reply: RecoverReply) -> bytes:
    return transcript(
        "recover", reply.context, reply.index, reply.owner, [[peer, share] for peer, share in reply.shares]
    )


def sealing_transcript(job: bytes, roster: bytes, sealing: Sealing) -> bytes:
    return transcript(
        "sealing", job, sealing.epoch, roster, sealing.index, sealing.state_digest, sealing.sealed_blob, sealing.wrapped
    )


def abort_transcript(job: bytes, roster: bytes, abort: Abort) -> bytes:
    """Without ctx: an ABORT ends the attempt for every R_r that the collector may have announced."""
    return transcript("abort", job, abort.epoch, roster, abort.index, abort.round, abort.attempt)


def receipt_transcript(job: bytes, roster: bytes, receipt: Receipt) -> bytes:
    return transcript(
        "receipt",
        job,
        receipt.epoch,
        roster,
        receipt.index,
        receipt.round,
        receipt.context,
        receipt.survivors_digest,
        receipt.state_digest,
        [figure.to_bytes(8, "big", signed=True) for figure in receipt.figures],
    )


# -------------------------------------------------------------------------------------------------------------- secrets


def secret_hash(context_: bytes, owner: int, peer: int, secret: bytes) -> bytes:
    """``peer`` 0: the owner's self seed."""
    return digest("secret", context_, owner, peer, secret)


def share_hash(context_: bytes, owner: int, holder: int, peer: int, share: bytes) -> bytes:
    return digest("share", context_, owner, holder, peer, share)
