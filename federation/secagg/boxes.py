"""Pair roots, and what is derived from them: mask seeds, and sealed boxes that carry an owner's shares to one holder.

A box is ChaCha20-Poly1305 under a key of its own (pair root, ctx, owner, holder), so its nonce is constant; ctx, owner,
holder and the owner's edges are bound as associated data: a box of another owner, holder or attempt does not open.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from federation.errors import ProtocolViolation
from federation.secagg.shamir import SHARE_BYTES
from federation.secagg.transcripts import transcript


def pair_root(private: bytes, peer_public: bytes, roster: bytes, mine: int, peer: int) -> bytes:
    """K_ij, the same for both ends. Raises ProtocolViolation when the peer's key is a point of small order."""
    low, high = sorted((mine, peer))
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as error:
        raise ProtocolViolation(
            f"The exchange key of member {peer} is not usable.",
            check="exchange-key",
            hint="Form the roster without it.",
        ) from error
    return HKDF(algorithm=SHA256(), length=32, salt=roster, info=transcript("pair", low, high)).derive(shared)


def _expand(root: bytes, info: bytes) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(root)


def mask_seed(root: bytes, context: bytes) -> bytes:
    """s_ij"""
    return _expand(root, transcript("mask", context))


def _box(root: bytes, context: bytes, owner: int, holder: int) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_expand(root, transcript("box", context, owner, holder)))


def _bound(context: bytes, owner: int, holder: int, edges: Sequence[int]) -> bytes:
    return transcript("box-data", context, owner, holder, list(edges))


def seal(root: bytes, context: bytes, owner: int, holder: int, edges: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """``shares``: of b, then of each edge's seed, in the order of ``edges``. One box per (ctx, owner, holder), ever."""
    return _box(root, context, owner, holder).encrypt(
        bytes(12), b"".join(shares), _bound(context, owner, holder, edges)
    )


def unseal(
    root: bytes, context: bytes, owner: int, holder: int, edges: Sequence[int], ciphertext: bytes
) -> tuple[bytes, ...]:
    try:
        data = _box(root, context, owner, holder).decrypt(bytes(12), ciphertext, _bound(context, owner, holder, edges))
    except InvalidTag:
        data = b""
    if len(data) != SHARE_BYTES * (1 + len(edges)):
        raise ProtocolViolation(
            f"The sealed shares of member {owner} do not open for member {holder}: another owner's, holder's or attempt's.",
            check="box",
            hint="The other holders can rebuild the seed; report it to the operator.",
        )
    return tuple(data[start : start + SHARE_BYTES] for start in range(0, len(data), SHARE_BYTES))
