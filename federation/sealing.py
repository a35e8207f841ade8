"""Files that are carried by somebody who may not read them: a key, or the keys of recipients, and pieces of any size.

The body is ChaCha20-Poly1305 over pieces of 1 MiB in the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár,
2015, as in age): a piece that is altered, moved, left out, or after the end does not open. Every file has a key of its
own, derived from a salt that is a keyed hash of the file, so that two files under one key share no nonce, and everybody who
has file and key makes the same bytes.

A file's key is wrapped for recipients with HPKE (RFC 9180, X25519 and ML-KEM-768 together). (docs/protocol/release.md, "Sealed
releases".)
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.errors import VerificationFailed

MAGIC: Final = b"concord/sealed/1"
SALT_BYTES: Final = 32
PIECE: Final = 1 << 20
TAG_BYTES: Final = 16
OVERHEAD: Final = len(MAGIC) + SALT_BYTES
KEY_BYTES: Final = 32
PRIVATE_BYTES: Final = 96
"""of a recipient: the X25519 scalar, then the seed of the ML-KEM-768 key"""
PUBLIC_BYTES: Final = 1216
"""the X25519 key, then the ML-KEM-768 encapsulation key"""
WRAPPED_BYTES: Final = 1168
"""of a key that is wrapped for one recipient"""
MOST_RECIPIENTS: Final = 100
_SCALAR_BYTES: Final = 32
_HPKE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def salt_of(key: bytes, digest: bytes) -> bytes:
    """The salt of a file with this SHA-256: who has the same file and key seals it to the same bytes, and two files under
    one key still share no nonce. It tells nobody else whether a guess of the file is right."""
    return hmac.digest(key, MAGIC + digest, "sha256")


def sealed_size(size: int) -> int:
    """Bytes of a sealed file whose clear one has ``size``."""
    return OVERHEAD + size + TAG_BYTES * max(1, -(-size // PIECE))


def seal(key: bytes, salt: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """``key``: 32 uniform bytes; ``salt``: never one for two files (``salt_of``). What comes out is written in order."""
    cipher = _cipher(key, salt)
    yield MAGIC + salt
    number, held = 0, b""
    for piece in _even(pieces):
        if held:
            yield cipher.encrypt(_nonce(number, last=False), held, None)
            number += 1
        held = piece
    yield cipher.encrypt(_nonce(number, last=True), held, None)


def unseal(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Raises VerificationFailed. What has come out before it does is authentic, but not the whole."""
    stream = _Reader(pieces)
    if stream.read(len(MAGIC)) != MAGIC:
        raise _wrong()
    salt = stream.read(SALT_BYTES)
    if len(salt) != SALT_BYTES:
        raise _wrong()
    cipher, number = _cipher(key, salt), 0
    held = stream.read(PIECE + TAG_BYTES)
    while True:
        following = stream.read(PIECE + TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(number, last=not following), held, None)
        except (InvalidTag, ValueError):
            raise _wrong() from None
        if not following:
            return
        number, held = number + 1, following


def recipient_key(private: bytes) -> bytes:
    """The public key of a recipient's 96 random bytes."""
    exchange, kem = _private(private)
    return exchange.public_key().public_bytes_raw() + kem.public_key().public_bytes_raw()


def is_recipient_key(public: bytes) -> bool:
    """Whether something can be sealed for it: of the right form, and no point of small order."""
    try:
        _HPKE.encrypt(bytes(KEY_BYTES), _public(public))
    except ValueError:
        return False
    return True


def release_purpose(job: bytes, state_digest: bytes) -> bytes:
    """Of a release: its job and its final state."""
    return b"concord/release/1" + job + state_digest


def wrap(key: bytes, recipients: Sequence[bytes], purpose: bytes) -> tuple[bytes, ...]:
    """``key`` for each recipient's public key, readable for no other ``purpose``."""
    return tuple(_HPKE.encrypt(key, _public(public), purpose) for public in recipients)


def unwrap(private: bytes, wrapped: bytes, purpose: bytes) -> bytes:
    """Raises VerificationFailed when it is for somebody else, for another purpose, or was altered."""
    exchange, kem = _private(private)
    try:
        key = _HPKE.decrypt(wrapped, hpke.MLKEM768X25519PrivateKey(kem, exchange), purpose)
    except (InvalidTag, ValueError):
        raise _wrong() from None
    if len(key) != KEY_BYTES:
        raise _wrong()
    return key


def key_id_of(public: bytes) -> str:
    """By which people tell sealing keys apart: the first half of their SHA-256, in hex."""
    return hashlib.sha256(public).hexdigest()[:32]


def _private(private: bytes) -> tuple[X25519PrivateKey, MLKEM768PrivateKey]:
    scalar, seed = private[:_SCALAR_BYTES], private[_SCALAR_BYTES:]
    return X25519PrivateKey.from_private_bytes(scalar), MLKEM768PrivateKey.from_seed_bytes(seed)


def _public(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    """Raises ValueError."""
    if len(public) != PUBLIC_BYTES:
        raise ValueError("a recipient's key has another length")
    exchange = X25519PublicKey.from_public_bytes(public[:_SCALAR_BYTES])
    return hpke.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(public[_SCALAR_BYTES:]), exchange)


def _cipher(key: bytes, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=salt, info=MAGIC).derive(key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _wrong() -> VerificationFailed:
    return VerificationFailed(
        "A sealed file does not open: it was altered, cut short, or sealed for somebody else.",
        hint="Fetch it again. If it goes on, ask another member for it.",
    )


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of PIECE bytes, the last of what is left; none for nothing."""
    stream = _Reader(pieces)
    while piece := stream.read(PIECE):
        yield piece


class _Reader:
    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken
