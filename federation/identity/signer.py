"""Whoever signs: a key in memory, in an encrypted file, on another machine, or in a token. The law asks for no more than this."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Signer(Protocol):
    """An Ed25519 key that somebody holds somewhere. ``federation.identity.keys.SigningKey`` is one."""

    @property
    def public(self) -> bytes:
        """32 bytes"""
        ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes"""
        ...
