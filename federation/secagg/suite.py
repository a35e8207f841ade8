"""The ciphers of the protocol behind one seam, so that every interleaving of the machines can be enumerated with cheap
stand-ins of the same shape.

Key agreement is X25519 and ML-KEM-768 (FIPS 203) together: recorded traffic stays secret as long as one of them stands.
A private key is 96 bytes: the X25519 scalar, then the seed of the ML-KEM key. (docs/protocol/secure-aggregation.md,
"Ciphers".)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from federation.secagg import shamir

EXCHANGE_KEY_BYTES: Final = 32
KEM_KEY_BYTES: Final = 1184
CIPHERTEXT_BYTES: Final = 1088
PRIVATE_BYTES: Final = 96
_SCALAR_BYTES: Final = 32
_NONCE: Final = bytes(12)


class Suite:
    """The real ciphers. What fails raises ValueError; callers say who is to blame."""

    def generate(self, random: Callable[[int], bytes]) -> bytes:
        return random(PRIVATE_BYTES)

    def public(self, private: bytes) -> tuple[bytes, bytes]:
        """The X25519 key and the ML-KEM-768 encapsulation key."""
        exchange = X25519PrivateKey.from_private_bytes(private[:_SCALAR_BYTES])
        kem = MLKEM768PrivateKey.from_seed_bytes(private[_SCALAR_BYTES:])
        return exchange.public_key().public_bytes_raw(), kem.public_key().public_bytes_raw()

    def encapsulate(self, kem_key: bytes) -> tuple[bytes, bytes]:
        """A fresh secret of 32 bytes, and its ciphertext. Randomness is the operating system's."""
        return MLKEM768PublicKey.from_public_bytes(kem_key).encapsulate()

    def decapsulate(self, private: bytes, ciphertext: bytes) -> bytes:
        """An altered ciphertext gives another secret (implicit rejection), not an error."""
        return MLKEM768PrivateKey.from_seed_bytes(private[_SCALAR_BYTES:]).decapsulate(ciphertext)

    def agree(self, private: bytes, exchange_key: bytes) -> bytes:
        """Raises ValueError for a point of small order."""
        own = X25519PrivateKey.from_private_bytes(private[:_SCALAR_BYTES])
        return own.exchange(X25519PublicKey.from_public_bytes(exchange_key))

    def extract(self, secret: bytes, salt: bytes, info: bytes) -> bytes:
        """HKDF-SHA256 (RFC 5869): 32 bytes."""
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)

    def expand(self, key: bytes, info: bytes) -> bytes:
        """HKDF-Expand-SHA256 (RFC 5869): 32 bytes from a uniform key."""
        return HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(key)

    def seal(self, key: bytes, data: bytes, bound: bytes) -> bytes:
        """ChaCha20-Poly1305 (RFC 8439) with a constant nonce: every key seals once."""
        return ChaCha20Poly1305(key).encrypt(_NONCE, data, bound)

    def unseal(self, key: bytes, ciphertext: bytes, bound: bytes) -> bytes:
        try:
            return ChaCha20Poly1305(key).decrypt(_NONCE, ciphertext, bound)
        except InvalidTag:
            raise ValueError("does not open") from None

    def split(
        self, secret: bytes, threshold: int, holders: Sequence[int], random: Callable[[int], bytes]
    ) -> dict[int, bytes]:
        return shamir.split(secret, threshold, holders, random)

    def rebuild(self, shares: Mapping[int, bytes]) -> bytes:
        return shamir.rebuild(shares)


STANDARD: Final = Suite()
