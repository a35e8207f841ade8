"""Primitives as the page names them, and page: "Masks": keystreams as integers."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR

AES_256_CTR = "aes-256-ctr"
CHACHA20 = "chacha20"
HEADER = 2**64 - 1
"""the chunk index of the header"""


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand, 32 bytes: one block."""
    return hmac.digest(key, info + b"\x01", "sha256")


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return expand(hmac.digest(salt, secret, "sha256"), info)


def sign(seed: bytes, text: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(text)


def identity(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def signed(public: bytes, text: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def public_keys(private: bytes) -> tuple[bytes, bytes]:
    """X25519, ML-KEM-768. ``private``: the scalar, then the 64-byte seed d || z."""
    kem = MLKEM768PrivateKey.from_seed_bytes(private[32:])
    exchange = X25519PrivateKey.from_private_bytes(private[:32])
    return exchange.public_key().public_bytes_raw(), kem.public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private[:32]).exchange(X25519PublicKey.from_public_bytes(public))


def decapsulate(private: bytes, ciphertext: bytes) -> bytes:
    return MLKEM768PrivateKey.from_seed_bytes(private[32:]).decapsulate(ciphertext)


def seal(key: bytes, data: bytes, bound: bytes | None = None, nonce: bytes = bytes(12)) -> bytes:
    return ChaCha20Poly1305(key).encrypt(nonce, data, bound)


def unseal(key: bytes, data: bytes, bound: bytes | None = None, nonce: bytes = bytes(12)) -> bytes | None:
    """None: it does not open."""
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, data, bound)
    except InvalidTag:
        return None


def keystream(seed: bytes, index: int, size: int, cipher: str) -> bytes:
    place = index.to_bytes(8, "big")
    if cipher == AES_256_CTR:
        made = Cipher(AES(seed), CTR(place + bytes(8)))
    else:
        # cryptography takes block counter (4 bytes, little-endian) and nonce as one
        made = Cipher(ChaCha20(seed, bytes(4) + bytes(4) + place), mode=None)
    return made.encryptor().update(bytes(size))


def words(seed: bytes, index: int, count: int, bits: int, cipher: str) -> list[int]:
    """``count`` unsigned integers of ``bits`` bits, little-endian."""
    width = bits // 8
    data = keystream(seed, index, count * width, cipher)
    return [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]


def drawn(label: str, size: int) -> bytes:
    """A vector's "random" bytes: SHAKE256 of a label."""
    return hashlib.shake_256(b"concord vectors: " + label.encode()).digest(size)


class Draws:
    """The same as a stream: what a party draws one after the other."""

    def __init__(self, label: str) -> None:
        self._label, self._at = label, 0

    def __call__(self, size: int) -> bytes:
        self._at += size
        return drawn(self._label, self._at)[-size:]
