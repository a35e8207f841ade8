"""What a node asks its policy: a job, the roll, the data sets that it would use here, the clock. All of it is a parameter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from federation.identity.roll import Roll, RollMember
from federation.manifest.manifest import Manifest


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the node's own catalogue says of a data set that the job would use here."""

    name: str
    tags: tuple[str, ...] = ()
    legal_basis: str = ""
    """empty: not stated"""


@dataclass(frozen=True, slots=True)
class StatisticsAsked:
    """What a StatisticsJob wants to know."""

    names: tuple[str, ...]
    floor: int
    """it answers nothing over fewer records"""


@dataclass(frozen=True, slots=True)
class StudyAsked:
    """The bounds of a Study, as its document states them; None where it states none."""

    runs: int | None
    rounds: int | None
    epsilon: float | None
    bytes: int | None
    days: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """``data_sets`` are the names that the job would use here; ``now`` is local "HH:MM", ``date`` the local day, "YYYY-MM-DD"."""

    manifest: Manifest
    roll: Roll
    member: str
    data_sets: tuple[str, ...]
    now: str
    sandbox: str
    """bubblewrap | none"""
    date: str = ""
    """empty: not known, and rules that end on a day have ended"""
    facts: tuple[DataFacts, ...] = ()
    """of ``data_sets``; one that is missing has no tags"""
    runtime: str = ""
    """digest of this node's runtime, in hex; empty: not known"""
    statistics: StatisticsAsked | None = None
    study: StudyAsked | None = None

    def others(self) -> tuple[RollMember, ...]:
        """The members that the job may bring in, besides this one."""
        people = self.manifest.spec.participants
        return tuple(
            member
            for member in self.roll.members
            if member.id != self.member
            and member.active
            and self.roll.tier_of(member).nodes
            and (not people.members or member.id in people.members)
            and (not people.jurisdictions or member.jurisdiction in people.jurisdictions)
        )

    def data(self) -> Iterator[DataFacts]:
        known = {each.name: each for each in self.facts}
        for name in self.data_sets:
            yield known.get(name, DataFacts(name))
