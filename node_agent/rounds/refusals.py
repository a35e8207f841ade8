"""What a node does with a message that it refuses: counts it, keeps it where it shows something, logs it, and says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from federation.errors import ProtocolViolation
from federation.identity.fields import moment_text
from federation.manifest.manifest import Manifest
from federation.v1 import rounds_pb2
from node_agent.rounds import disclosure
from node_agent.rounds.lab import Lab
from node_agent.store.evidence import Piece

REFUSALS_TOLD: Final = 100
"""of a job: each further one is told when their number is a power of two, so that a log does not grow with a peer's patience"""
NO_EVIDENCE: Final = frozenset(
    {
        *(
            "aborted",
            "context",
            "epoch",
            "formation",
            "out-of-order",
            "stale-attempt",
            "stale-round",
            "suspended-member",
        ),
        *("contribution-lost", "min-cohort", "sum-not-applied", "sum-refused", disclosure.CHECK, disclosure.BEHIND),
    }
)
"""Checks of which nothing is kept: the first row an honest coordinator fails too when messages cross on a slow network; the second
is about this lab, or kept where it was found."""


class Refusals:
    """Those of one job on this node."""

    def __init__(self, lab: Lab, manifest: Manifest, send: Callable[[Any], None], log: Any) -> None:
        self._lab, self._manifest, self._send, self._log = lab, manifest, send, log
        self._count = 0

    def refuse(self, violation: ProtocolViolation, proto: Any) -> None:
        """Says which check failed and what the operator can do; keeps the message where it shows something."""
        self._lab.count("refusals")
        self._count += 1
        kept = None if violation.check in NO_EVIDENCE else self.keep(violation, proto)
        if self._count > REFUSALS_TOLD and self._count & (self._count - 1):
            return
        self._log.warning(
            "protocol.refused",
            check=violation.check,
            detail=violation.message,
            hint=violation.hint or violation.remedy,
            message=type(proto).__name__ if proto is not None else "",
            refusals=self._count,
            **kept_as(kept),
        )
        text = self._lab.discreet(f"{violation.message} {violation.hint}".strip())
        self._send(rounds_pb2.Refusal(code=f"{violation.code}/{violation.check}", text=text))

    def keep(self, violation: ProtocolViolation, *protos: Any) -> Path | None:
        """Where the refused message lies now; None when it is not kept, or cannot be."""
        parts = [proto.SerializeToString() for proto in protos if proto is not None]
        if not parts:
            return None
        kind = next(type(proto).__name__ for proto in protos if proto is not None)
        now = moment_text(datetime.now(UTC))
        piece = Piece.of(self._manifest.digest, self._manifest.name, now, violation, kind, parts)
        try:
            kept = self._lab.evidence.keep(piece)
        except OSError as error:
            self._log.error("evidence.not-kept", detail=str(error), hint="Is the home's disk full?")
            return None
        if kept is not None:
            self._lab.count("evidence")
        return kept


def kept_as(path: Path | None) -> dict[str, str]:
    """For a line of the log."""
    if path is None:
        return {}
    return {
        "evidence": str(path),
        "to_do": f"Show it to the other members: concord-node evidence show {path.name[:12]}",
    }
