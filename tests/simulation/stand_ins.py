"""Stand-ins of the same shape for the costly ciphers, and a federation whose setup is behind it, so that every interleaving
of the machines can be tried.

The stand-ins keep what the machines decide by: keys of the two ends agree, a box opens for its key and its bound data
alone, a share is a real share, a derived key depends on all its inputs. They hide nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from federation.secagg.collector import CollectorMachine
from federation.secagg.member import Me, MemberMachine
from federation.secagg.messages import Ready
from federation.secagg.suite import CIPHERTEXT_BYTES, KEM_KEY_BYTES, STANDARD, Suite
from tests.simulation.harness import Signer, World, random_of, stand_in_verify


def _digest(*parts: bytes) -> bytes:
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(len(part).to_bytes(4, "big") + part)
    return state.digest()


class StandInSuite(Suite):
    """Shamir's shares are real; a public key is its private key."""

    def __init__(self) -> None:
        self._drawn = 0

    def public(self, private: bytes) -> tuple[bytes, bytes]:
        return private[:32], private[32:64].ljust(KEM_KEY_BYTES, b"\0")

    def encapsulate(self, kem_key: bytes) -> tuple[bytes, bytes]:
        self._drawn += 1
        secret = _digest(b"encapsulate", kem_key, self._drawn.to_bytes(8, "big"))
        return secret, secret.ljust(CIPHERTEXT_BYTES, b"\0")

    def decapsulate(self, private: bytes, ciphertext: bytes) -> bytes:
        return ciphertext[:32]

    def agree(self, private: bytes, exchange_key: bytes) -> bytes:
        return _digest(b"agree", *sorted((private[:32], exchange_key)))

    def extract(self, secret: bytes, salt: bytes, info: bytes) -> bytes:
        return _digest(b"extract", secret, salt, info)

    def expand(self, key: bytes, info: bytes) -> bytes:
        return _digest(b"expand", key, info)

    def seal(self, key: bytes, data: bytes, bound: bytes) -> bytes:
        return data + _digest(b"seal", key, data, bound)[:16]

    def unseal(self, key: bytes, ciphertext: bytes, bound: bytes) -> bytes:
        data = ciphertext[:-16]
        if ciphertext[-16:] != _digest(b"seal", key, data, bound)[:16]:
            raise ValueError("does not open")
        return data


class Quick(World):
    """A world of stand-ins. ``variant``: the class of its members' machines; ``suite``: ``STANDARD`` for real
    ciphers."""

    def __init__(
        self,
        n: int = 5,
        *,
        variant: type[MemberMachine] = MemberMachine,
        suite: Suite | None = None,
        **changes: Any,
    ) -> None:
        self.variant = variant
        self.suite = suite or StandInSuite()
        defaults = {"stand_in": self.suite is not STANDARD, "size": 3, "chunk_parameters": 4, "rounds": 1}
        super().__init__(n, **{**defaults, **changes})

    def _machine(self, name: str, signer: Signer, weight: int, life: int) -> MemberMachine:
        return self.variant(
            self.terms,
            Me(name, "node", name.encode(), weight, self.min_cohort.get(name)),
            signer,
            self.verify_credential,
            random_of(f"{name}/{life}"),
            verify=stand_in_verify if self.stand_in else None,
            suite=self.suite,
        )


class Seated(Quick):
    """A world whose setup is behind it, for enumerations: its journals and the collector's checkpoint are made once for each n.
    Its collector keeps no log, so it cannot be restarted."""

    def __init__(self, n: int, **changes: Any) -> None:
        super().__init__(n, **changes)
        made = tuple(sorted(changes.items()))
        journals, checkpoint = _seated(n, made)
        for lab in self.labs.values():
            lab.journal = dict(journals[lab.name])
            lab.machine.restore(journals[lab.name])
        self.collector = CollectorMachine.from_checkpoint(
            self.terms, self.windows, self.verify_credential, checkpoint, verify=self.collector._verify
        )

    def begin(self, names: Sequence[str] = ()) -> World:
        for lab in self.labs.values():
            self._connected(lab)
        return self

    def tell_collector(self, event: Any) -> None:
        instructions = self.collector.handle(event, self.now)
        self.collector.validate()
        self.perform(instructions)


@cache
def _seated(n: int, changes: tuple[tuple[str, Any], ...]) -> tuple[dict[str, dict[str, bytes]], bytes]:
    world = Quick(n, **dict(changes))
    world.tamper = lambda member, message: None if isinstance(message, Ready) else message
    world.begin().run()
    assert all(lab.machine.phase == "training" for lab in world.labs.values())
    return {lab.name: dict(lab.journal) for lab in world.labs.values()}, world.collector.checkpoint()
