"""A laboratory's privacy budget for one data set, and what a ledger of charges leaves of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federation.errors import BudgetExhausted
from federation.privacy.accounting import Charge, epsilon_of, repeated


@dataclass(frozen=True, slots=True)
class Budget:
    epsilon: float
    delta: float
    unit: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One job's part in a data set's ledger."""

    job: bytes
    name: str
    charged: Mapping[Charge, int]
    """what has left, or may have; kept for ever"""
    planned: Mapping[Charge, int]
    """what the job as a whole was consented to; counts while it is active, where it is more"""
    active: bool

    @property
    def held(self) -> Mapping[Charge, int]:
        """What must be kept free for it: what was charged, and while it is active what it may still charge."""
        if not self.active:
            return self.charged
        return {
            charge: max(self.charged.get(charge, 0), self.planned.get(charge, 0))
            for charge in {**self.planned, **self.charged}
        }


@dataclass(frozen=True, slots=True)
class Account:
    """A data set's standing. Epsilons at the budget's delta, each of everything so far together: they do not add up."""

    spent: float
    held: float
    """with what active jobs have reserved"""
    budget: Budget | None

    @property
    def left(self) -> float | None:
        """None: no budget, no limit."""
        return None if self.budget is None else max(0.0, self.budget.epsilon - self.held)


def account(entries: Iterable[Entry], budget: Budget | None, delta: float, unit: str) -> Account:
    """``delta`` and ``unit`` are for where there is no budget that states them."""
    entries = tuple(entries)
    if budget is not None:
        delta, unit = budget.delta, budget.unit
    return Account(
        epsilon_of(_together(entry.charged for entry in entries), delta, unit),
        epsilon_of(_together(entry.held for entry in entries), delta, unit),
        budget,
    )


def check_consent(entries: Iterable[Entry], planned: Mapping[Charge, int], budget: Budget, data_set: str) -> None:
    """Raises BudgetExhausted when a job as a whole does not fit beside what is held."""
    others = [entry.held for entry in entries]
    if epsilon_of(_together([*others, planned]), budget.delta, budget.unit) > budget.epsilon:
        alone = epsilon_of(planned, budget.delta, budget.unit)
        raise BudgetExhausted(
            f"The privacy budget of data set {data_set} is too small for this job, which alone takes epsilon "
            f"{alone:.3g} at delta {budget.delta:g} (unit {budget.unit}).",
            hint="See `concord-node budget`.",
        )


def check_charge(entries: Iterable[Entry], job: bytes, charge: Charge, budget: Budget | None, data_set: str) -> None:
    """Before an upload, whatever a coordinator says: raises BudgetExhausted when this charge would exceed what the job
    was consented to, or the budget together with all that was ever charged."""
    entries = tuple(entries)
    own = next((entry for entry in entries if entry.job == job), None)
    if own is None or own.charged.get(charge, 0) + 1 > own.planned.get(charge, 0):
        raise BudgetExhausted(
            f"The job has used up the privacy that this lab consented to spend on it ({data_set}).",
            hint="Nothing was uploaded. See `concord-node budget`.",
        )
    if budget is None:
        return
    charged = _together([*(entry.charged for entry in entries), {charge: 1}])
    if epsilon_of(charged, budget.delta, budget.unit) > budget.epsilon:
        raise BudgetExhausted(
            f"The privacy budget of data set {data_set} would be exceeded: epsilon {budget.epsilon:g} at delta "
            f"{budget.delta:g} (unit {budget.unit}).",
            hint="Nothing was uploaded. See `concord-node budget`.",
        )


def _together(counts: Iterable[Mapping[Charge, int]]) -> dict[Charge, int]:
    return repeated(item for each in counts for item in each.items())
