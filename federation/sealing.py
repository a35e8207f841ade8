"""Files that are carried by somebody who may not read them: a key, or the keys of recipients, and pieces of any size.

The body is ChaCha20-Poly1305 over pieces of 1 MiB in the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár,
2015, as in age): a piece that is altered, moved, left out, or after the end does not open. Every file has a key of its
own, derived from a random salt, so that two files under one key share no nonce. (docs/protocol/sealed-files.md)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.errors import VerificationFailed

MAGIC: Final = b"concord/sealed/1"
SALT_BYTES: Final = 32
PIECE: Final = 1 << 20
TAG_BYTES: Final = 16
OVERHEAD: Final = len(MAGIC) + SALT_BYTES


def seal(key: bytes, pieces: Iterable[bytes], random: Callable[[int], bytes] = os.urandom) -> Iterator[bytes]:
    """``key``: 32 uniform bytes. What comes out is written in order."""
    salt = random(SALT_BYTES)
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
