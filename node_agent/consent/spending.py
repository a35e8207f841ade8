"""`concord-node budget`: what was spent of each data set's privacy, what is reserved, what is left, and by which jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isinf
from typing import Any, Final

from federation.errors import InvalidUsage
from federation.identity.fields import moment_text
from federation.privacy.accounting import Charge, as_unit, epsilon_of
from federation.privacy.budget import Budget, Entry, account
from federation.privacy.terms import MEMBER, RECORD
from node_agent.settings import Home
from node_agent.store.journal import Journal

DELTA: Final = 1e-6
"""at which spending is shown where no budget states another"""


def entries_of(home: Home, data_set: str) -> tuple[Entry, ...]:
    """From the journal as it lies on the disk. Raises BudgetExhausted when nobody can say what was spent."""
    if not home.journal.exists() or not home.journal.stat().st_size:
        return ()
    with Journal(home.journal, read_only=True) as journal:
        return journal.ledger(data_set)


def accept_loss(home: Home) -> None:
    """Raises Unavailable while the node runs."""
    home.settings()
    with Journal(home.journal, now=moment_text(datetime.now(UTC))) as journal:  # it may be this start that finds it
        journal.accept_loss()


def print_budget(home: Home, output: str = "table") -> None:
    """Raises InvalidUsage, or BudgetExhausted when the ledger is not whole."""
    if output not in {"table", "json"}:
        raise InvalidUsage(f"There is no output {output!r}.", hint="Use table or json.")
    settings = home.settings()
    names = list(settings.data_sets)
    if home.journal.exists() and home.journal.stat().st_size:
        with Journal(home.journal, read_only=True) as journal:
            names += [name for name in journal.charged_data_sets() if name not in names]
    budgets = {name: held.budget for name, held in settings.data_sets.items()}
    shown = [_data_set(name, budgets.get(name), entries_of(home, name)) for name in names]
    if output == "json":
        print(json.dumps({"dataSets": shown}, indent=2))
        return
    for line in _lines(shown):
        print(line)


def _data_set(name: str, budget: Budget | None, entries: tuple[Entry, ...]) -> dict[str, Any]:
    unit = budget.unit if budget is not None else _unit(entries)
    delta = budget.delta if budget is not None else DELTA
    standing = account(entries, budget, delta, unit)
    return {
        "dataSet": name,
        "unit": unit,
        "delta": delta,
        "budget": budget.epsilon if budget is not None else None,
        "spent": _finite(standing.spent),
        "spentAndReserved": _finite(standing.held),
        "left": _finite(standing.left),
        "jobs": [
            {
                "job": entry.job.hex(),
                "name": entry.name,
                "active": entry.active,
                "mechanisms": sorted({query.mechanism for charge in _all(entry) for query in charge.queries}),
                "uploadsCharged": sum(entry.charged.values()),
                "uploadsPlanned": sum(entry.planned.values()),
                "spent": _finite(epsilon_of(entry.charged, delta, unit)),
            }
            for entry in entries
        ],
    }


def _all(entry: Entry) -> Mapping[Charge, int]:
    return {**entry.planned, **entry.charged}


def _unit(entries: tuple[Entry, ...]) -> str:
    """The largest unit for which every entry promises something."""
    queries = [query for entry in entries for charge in _all(entry) for query in charge.queries]
    return MEMBER if all(as_unit(query, MEMBER) is not None for query in queries) else RECORD


def _finite(value: float | None) -> float | None:
    """JSON has no infinity; None where there is no limit, or no promise."""
    return None if value is None or isinf(value) else value


def _lines(shown: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for each in shown:
        limit = f"of {each['budget']:g}" if each["budget"] is not None else "no budget, no limit"
        lines.append(f"{each['dataSet']}  unit {each['unit']}, delta {each['delta']:g}, epsilon {limit}")
        left = f", left {each['left']:.4g}" if each["left"] is not None else ""
        lines.append(
            f"    spent {_number(each['spent'])}, with what is reserved {_number(each['spentAndReserved'])}{left}"
        )
        for job in each["jobs"]:
            state = "active" if job["active"] else "ended"
            lines.append(
                f"    {job['job'][:12]}  {job['name']}  {state}  {', '.join(job['mechanisms'])}  "
                f"uploads {job['uploadsCharged']} of {job['uploadsPlanned']}, alone epsilon {_number(job['spent'])}"
            )
    if not shown:
        lines.append("no data sets")
    lines.append(
        "Epsilons do not add up: several jobs together mostly cost less than the sum. Jobs without privacy are not counted."
    )
    return lines


def _number(value: float | None) -> str:
    return "without limit" if value is None else f"{value:.4g}"
