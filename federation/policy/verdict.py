"""What a policy says to a job: granted, denied, or a person must decide; with every reason, and the rule and line that gave it.

A verdict has one canonical document (RFC 8785), whose SHA-256 a consent binds: who reads it years later finds which packs were in
force, and which rule decided.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from federation.identity.envelope import canonical

FORMAT: Final = "concord/verdict/v1"
Outcome = Literal["granted", "asks", "denied"]
Layer = Literal["own", "base", "national", "lab", "node"]
"""whose rule it is. own: the lab's policy file; lab: a pack of its own; node: what no file says, such as that the job does not ask
this member"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says to the job."""

    effect: Literal["allows", "asks", "denies"]
    pack: str
    layer: Layer
    rule: str
    """its name as in the file, such as rules.maxRounds"""
    line: int = field(compare=False)
    """of the file, for people; 0: it does not stand there. No part of the verdict's document: a comment more moves lines"""
    sentence: str
    detail: str = ""
    """for the lab's own eyes: no part of what a lead reads"""

    @property
    def text(self) -> str:
        """As a lead reads it. The lab's own rules need no name: it is the lab that answers."""
        plain = self.sentence if self.effect == "allows" else f"{self.rule}: {self.sentence}"
        asks = f"{plain}; a person must decide" if self.effect == "asks" else plain
        if self.layer in {"own", "node"}:
            return asks
        return f"{asks} ({self.layer} pack {self.pack}{f', line {self.line}' if self.line else ''})"

    @property
    def place(self) -> str:
        """Where the rule stands, for the lab."""
        return f"{self.pack}:{self.line}" if self.line else self.pack or "this node"


@dataclass(frozen=True, slots=True)
class PackReference:
    """A file that took part in the decision."""

    name: str
    layer: Layer
    serial: int
    """0: the lab's own file has none"""
    digest: bytes
    """SHA-256 of what it says, in canonical form: comments and the order of keys and lists do not matter"""


@dataclass(frozen=True, slots=True)
class Verdict:
    findings: tuple[Finding, ...]
    """every rule that said something, in the vocabulary's order: the lab's own file, then the packs by name"""
    packs: tuple[PackReference, ...] = ()
    vocabulary: int = 0
    job: bytes = field(default=b"", repr=False)
    roll: bytes = field(default=b"", repr=False)
    member: str = ""
    moment: str = ""
    """local, as the question gave it"""
    deputies: tuple[str, ...] | None = None
    """who may decide where a person must; None: whoever has the node"""

    @property
    def outcome(self) -> Outcome:
        effects = {finding.effect for finding in self.findings}
        return "denied" if "denies" in effects or not effects else "asks" if "asks" in effects else "granted"

    @property
    def granted(self) -> bool:
        return self.outcome == "granted"

    @property
    def needs_person(self) -> bool:
        """Nothing denies, and a rule wants a person's word."""
        return self.outcome == "asks"

    @property
    def deciding(self) -> tuple[Finding, ...]:
        """Denied: all that deny. To be asked: all that ask. Granted: what allowed it."""
        effect = {"denied": "denies", "asks": "asks", "granted": "allows"}[self.outcome]
        return tuple(finding for finding in self.findings if finding.effect == effect)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The deciding findings as sentences."""
        return tuple(dict.fromkeys(finding.text for finding in self.deciding))

    @property
    def decided_by(self) -> str:
        """The files whose rules decided."""
        return ", ".join(dict.fromkeys(finding.pack or "this node" for finding in self.deciding))

    def document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "vocabulary": self.vocabulary,
            "outcome": self.outcome,
            "job": self.job.hex(),
            "roll": self.roll.hex(),
            "member": self.member,
            "moment": self.moment,
            "deputies": list(self.deputies) if self.deputies is not None else None,
            "packs": [
                {"name": pack.name, "layer": pack.layer, "serial": pack.serial, "digest": pack.digest.hex()}
                for pack in self.packs
            ],
            "findings": [
                {
                    "effect": finding.effect,
                    "pack": finding.pack,
                    "layer": finding.layer,
                    "rule": finding.rule,
                    "sentence": finding.sentence,
                    "detail": finding.detail,
                }
                for finding in self.findings
            ],
        }

    def to_bytes(self) -> bytes:
        return canonical(self.document())

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical document, 32 bytes."""
        return hashlib.sha256(self.to_bytes()).digest()
