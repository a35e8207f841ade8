"""Ed25519 identity keys (RFC 8032), key ids, and injective transcripts to sign."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.errors import InvalidIdentity

PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class SigningKey:
    """An Ed25519 private key. It is written only by the service that owns it, with mode 0600; ``repr`` shows the public part."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @staticmethod
    def generate() -> SigningKey:
        return SigningKey(Ed25519PrivateKey.generate())

    @staticmethod
    def from_pem(data: bytes) -> SigningKey:
        """Raises InvalidIdentity when ``data`` is not an unencrypted PKCS #8 Ed25519 key."""
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidIdentity(
                "The key file does not hold a private key.", hint="Restore it from a backup."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidIdentity("The key file holds a key of another kind.", hint="Identity keys are Ed25519.")
        return SigningKey(key)

    def to_pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({key_id(self.public)}, private part redacted)"


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises InvalidIdentity unless ``signature`` is by ``public`` over ``message``."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        raise InvalidIdentity("A key or signature has the wrong length.")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise InvalidIdentity(
            f"A signature by {key_id(public)[:24]}… does not check.",
            hint="What it covers was altered, or is not from whom it names: get it again from its source.",
        ) from error


def key_id(public: bytes) -> str:
    return "ed25519:" + public.hex()


def public_of(identifier: object) -> bytes:
    """The key that ``key_id`` named. Raises InvalidIdentity."""
    if isinstance(identifier, str) and identifier.startswith("ed25519:") and len(identifier) == 8 + 2 * PUBLIC_BYTES:
        text = identifier[8:]
        if all(digit in "0123456789abcdef" for digit in text):
            return bytes.fromhex(text)
    raise InvalidIdentity(
        f"{str(identifier)[:80]!r} is not a key id.", hint="It is ed25519: and 64 lower-case hex digits."
    )


def transcript(label: str, *fields: bytes | str | int) -> bytes:
    """An injective encoding to hash or sign: the label, then each field with its kind and its length (8 bytes, big-endian).

    Whole numbers are 0..2^64-1; others raise OverflowError.
    """
    parts = [_framed(b"L", label.encode())]
    for field in fields:
        if isinstance(field, bytes):
            parts.append(_framed(b"B", field))
        elif isinstance(field, str):
            parts.append(_framed(b"S", field.encode()))
        else:
            parts.append(_framed(b"I", field.to_bytes(8, "big")))
    return b"".join(parts)


def _framed(kind: bytes, data: bytes) -> bytes:
    return kind + len(data).to_bytes(8, "big") + data
