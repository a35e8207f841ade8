"""docs/protocol/release.md, "Sealed files": a file that members seal for recipients, and its wrapped key."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.plain.ciphers import hkdf, public_keys, seal
from tests.plain.kem import encapsulate

MAGIC = b"concord/sealed/1"
SUITE = b"HPKE" + (0x647A).to_bytes(2, "big") + (1).to_bytes(2, "big") + (3).to_bytes(2, "big")


def file(key: bytes, data: bytes, piece: int = 2**20) -> bytes:
    salt = hmac.digest(key, MAGIC + hashlib.sha256(data).digest(), "sha256")
    inner = hkdf(key, salt, MAGIC)
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)] or [b""]
    found = MAGIC + salt
    for number, each in enumerate(pieces):
        last = number == len(pieces) - 1
        found += seal(inner, each, None, number.to_bytes(11, "big") + bytes([last]))
    return found


def recipient_key(private: bytes) -> bytes:
    return b"".join(public_keys(private))


def _extract(salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + SUITE + label + secret, "sha256")


def _expand(key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    text = size.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + info
    return hmac.digest(key, text + b"\x01", "sha256")[:size]


def wrap(key: bytes, public: bytes, purpose: bytes, ephemeral: bytes, message: bytes) -> bytes:
    """HPKE base mode. ``ephemeral``: an X25519 scalar, ``message``: ML-KEM's 32 bytes; a library draws both."""
    theirs, kem_key = public[:32], public[32:]
    kem_secret, ciphertext = encapsulate(kem_key, message)
    own = X25519PrivateKey.from_private_bytes(ephemeral)
    point = own.public_key().public_bytes_raw()
    agreed = own.exchange(X25519PublicKey.from_public_bytes(theirs))
    shared = hashlib.sha3_256(kem_secret + agreed + point + theirs + rb"\.//^" + b"\\").digest()
    context = b"\x00" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", purpose)
    secret = _extract(shared, b"secret", b"")
    inner, nonce = _expand(secret, b"key", context, 32), _expand(secret, b"base_nonce", context, 12)
    return ciphertext + point + seal(inner, key, b"", nonce)
