"""What of this lab left exactly, and what therefore may not leave again: the lab's rule over all its jobs.

A sum over a cohort, and the same sum over another, tell by their difference what a laboratory alone would not say. What is "the
same" cannot be told by names or by code, which one changed byte makes others: it is what was computed from the same weights on
the same data. Such figures, and updates, leave this lab over one cohort only, unless they carry noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from federation.errors import ProtocolViolation
from federation.manifest.manifest import Manifest
from federation.secagg.certificate import violation
from federation.secagg.cohorts import UPDATE, Attempt, FigureEntry
from federation.secagg.events import RememberFigures
from federation.secagg.parameters import Terms

CHECK = "figure-cohort"
BEHIND = "behind"
SHOWN = 6
"""members of a cohort that a sentence names"""


def exact_in(manifest: Manifest, terms: Terms, round_number: int) -> tuple[str, ...]:
    """What leaves without noise in a round; the last round has no training."""
    if terms.header_only(round_number):
        return tuple(name for name in manifest.exact_figures if name.startswith("evaluate/"))
    return (*manifest.exact_figures, *((UPDATE,) if manifest.exact_update else ()))


@dataclass(slots=True)
class FigureBook:
    """All entries of the journal, over all jobs: what the rules of running jobs look at. ``entries``: (job, entry)."""

    _by_model: dict[tuple[bytes, bytes], dict[tuple[bytes, int, int, int], FigureEntry]] = field(default_factory=dict)

    @staticmethod
    def of(entries: Iterable[tuple[bytes, FigureEntry]]) -> FigureBook:
        book = FigureBook()
        for job, entry in entries:
            book.put(job, entry)
        return book

    def at(self, weights: bytes, data: bytes) -> Mapping[tuple[bytes, int, int, int], FigureEntry]:
        """By job, epoch, round, attempt."""
        return self._by_model.get((weights, data), {})

    def put(self, job: bytes, entry: FigureEntry) -> None:
        key = (job, entry.epoch, entry.round, entry.attempt)
        self._by_model.setdefault((entry.weights, entry.data), {})[key] = entry

    def erase(self, job: bytes, entry: FigureEntry) -> None:
        del self._by_model[(entry.weights, entry.data)][(job, entry.epoch, entry.round, entry.attempt)]


@dataclass(slots=True)
class Disclosure:
    """A ``CohortRule``: one job's part in the book. The book is changed at once, so that two jobs cannot pass each other; what is
    given back writes it to disk."""

    book: FigureBook
    job: bytes
    exact: Mapping[bool, tuple[str, ...]]
    """figures that leave without noise, in a round with training (False) and in one that is header-only (True)"""
    rounds: int
    data: tuple[bytes, ...] | None = None
    """versions of the data sets that the job uses here; None: not known, and nothing leaves"""
    _weights: dict[bytes, bytes] = field(default_factory=dict)

    def hold(self, state_digest: bytes, weights: bytes) -> None:
        """The lab holds this state, whose model has this digest. Two are remembered: the present one and the one before."""
        self._weights[state_digest] = weights
        while len(self._weights) > 2:
            del self._weights[next(iter(self._weights))]

    # ------------------------------------------------------------------------------------------------------- CohortRule

    def check(self, attempt: Attempt, cohort: tuple[str, ...]) -> None:
        if not self._leaving(attempt):
            return
        weights = self._weights.get(attempt.state_digest)
        if weights is None:
            raise violation(
                BEHIND,
                f"This lab does not hold the model of round {attempt.round}, and cannot tell what would be let out.",
                hint="Nothing to do: it acknowledges again when it has caught up.",
            )
        if self.data is None:
            raise violation(
                CHECK,
                "This lab cannot read its data, and so not tell what it would let out.",
                hint="See the node's log: it names the file.",
            )
        for data in self.data:
            others = {
                key: entry
                for key, entry in self.book.at(weights, data).items()
                if (key[0], key[2]) != (self.job, attempt.round)  # there the job's own binding rules
            }
            again = any(entry.opened and entry.cohort == cohort for entry in others.values())
            other = next((item for item in others.items() if item[1].cohort != cohort), None)
            if other is not None and not again:
                raise self._refused(*other, cohort)

    def enter(self, attempt: Attempt, cohort: tuple[str, ...], *, opened: bool) -> list[RememberFigures]:
        self.check(attempt, cohort)
        return self.keep(attempt, cohort, opened=opened)

    def keep(self, attempt: Attempt, cohort: tuple[str, ...], *, opened: bool) -> list[RememberFigures]:
        figures, weights = self._leaving(attempt), self._weights.get(attempt.state_digest)
        if not figures or weights is None or self.data is None:
            return []
        put = []
        for data in dict.fromkeys(self.data):
            entry = FigureEntry(weights, data, attempt.epoch, attempt.round, attempt.attempt, cohort, figures, opened)
            known = self.book.at(weights, data).get((self.job, attempt.epoch, attempt.round, attempt.attempt))
            if known is None or (known != entry and not (known.opened and known == replace(entry, opened=True))):
                self.book.put(self.job, entry)
                put.append(entry)
        return [RememberFigures(put=tuple(put))] if put else []

    def close(self, attempt: Attempt, cohort: tuple[str, ...]) -> list[RememberFigures]:
        erased = [
            entry
            for entry in self._own(attempt)
            if not entry.opened and (entry.epoch, entry.attempt) != (attempt.epoch, attempt.attempt)
        ]
        return [*self._erase(erased), *self.keep(attempt, cohort, opened=True)]

    def retract(self, attempt: Attempt) -> list[RememberFigures]:
        here = (attempt.epoch, attempt.attempt)
        return self._erase([entry for entry in self._own(attempt) if (entry.epoch, entry.attempt) == here])

    # ----------------------------------------------------------------------------------------------------------- inside

    def _leaving(self, attempt: Attempt) -> tuple[str, ...]:
        return self.exact[attempt.round > self.rounds]

    def _own(self, attempt: Attempt) -> list[FigureEntry]:
        """Entries of this job for the round and the model that the attempt is about."""
        weights = self._weights.get(attempt.state_digest)
        if weights is None or self.data is None:
            return []
        return [
            entry
            for data in dict.fromkeys(self.data)
            for key, entry in self.book.at(weights, data).items()
            if (key[0], key[2]) == (self.job, attempt.round)
        ]

    def _erase(self, entries: list[FigureEntry]) -> list[RememberFigures]:
        for entry in entries:
            self.book.erase(self.job, entry)
        return [RememberFigures(erase=tuple(entries))] if entries else []

    def _refused(
        self, key: tuple[bytes, int, int, int], before: FigureEntry, cohort: tuple[str, ...]
    ) -> ProtocolViolation:
        where = f"in round {before.round}" if key[0] == self.job else f"in job {key[0].hex()[:12]}"
        return violation(
            CHECK,
            f"{_named(before.figures)} of this model left this lab {where} as sums over {_named(before.cohort)}; sums over "
            f"{_named(cohort)} would tell by the difference what one member's own is.",
            hint="Wait until the same members are there, start from another first model (spec.model.seed), or evaluate nothing.",
        )


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
