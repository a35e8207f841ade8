"""The log as it was verified for a reader: every check by name, and what nobody gave the means to check."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.client.log_keys import Trusted
from federation.audit.verify import Verified


@dataclass(frozen=True, slots=True)
class Examined:
    found: Verified
    trust: Trusted
    own: int
    """how many statements of the reader's home it holds"""
    witnesses: int
    """how many nodes might have cosigned, of those that an officer on the reader's roll vouches for"""

    @property
    def checks(self) -> tuple[str, ...]:
        own = f"It holds all {self.own} that this home has signed: votes, proposals, halts, jobs."
        return (*self.trust.checks, *self.found.checks, *([own] if self.own else []))

    @property
    def unchecked(self) -> tuple[str, ...]:
        said = list(self.trust.unchecked)
        if self.found.older is None:
            said.append("Whether it continues a head from before: name one that you kept, or a node's, with --since.")
        if not self.witnesses:
            said.append(
                "Cosignatures: no node is known whose officer stands on a roll that is held here. With --roll, over the connection "
                "of `concord login` or over a copy that was fetched by it, they are counted."
            )
        elif not self.found.witnesses:
            said.append(f"Cosignatures: none of the {self.witnesses} nodes that may has cosigned this head yet.")
        return tuple(said)
