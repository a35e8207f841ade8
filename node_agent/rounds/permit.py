"""Whether this lab lets one job go on here: its own consent, the data that it is for, the budgets. Asked before each step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from federation.errors import BudgetExhausted, FederationError
from federation.identity.consent import Consent
from federation.manifest.manifest import Manifest
from federation.manifest.privacy import round_charge
from federation.privacy.accounting import Charge
from federation.secagg import events
from federation.v1 import rounds_pb2
from node_agent.consent.decision import plans_of
from node_agent.consent.standing import ConsentOver
from node_agent.rounds.disclosure import Disclosure
from node_agent.rounds.lab import Lab


class Permit:
    """``data``: reads which versions the data sets are that the job uses here; raises OSError. ``say``: to the coordinator."""

    def __init__(
        self,
        lab: Lab,
        manifest: Manifest,
        names: tuple[str, ...],
        data: Callable[[], tuple[bytes, ...]],
        rule: Disclosure,
        say: Callable[[Any], None],
        log: Any,
    ) -> None:
        self._lab, self._manifest, self._names, self._data = lab, manifest, names, data
        self._rule, self._say, self._log = rule, say, log

    # ----------------------------------------------------------------------------------------------------------- consent

    def check(self) -> Consent:
        """Raises PolicyDenied unless this lab's own disk holds its own valid consent; one that has ended ends the job here."""
        plans = plans_of(self._manifest, self._names)
        try:
            consent = self._lab.standing.check(self._manifest, plans, self._lab.clock())
        except ConsentOver as over:
            self._lab.over(self._manifest.digest, over.cause)
            raise
        held = [name for name in self._names if name in self._lab.budgets]
        if held and self._manifest.privacy is None:
            raise BudgetExhausted(
                f"The data set {held[0]} has a privacy budget by now, and the job has no differential privacy.",
                hint="Nothing was trained.",
            )
        return consent

    def stands(self) -> bool:
        """False: the coordinator was told that this lab takes no part."""
        try:
            self.check()
        except ConsentOver as over:  # the lab says so itself, and signs it
            self._log.warning("consent.over", detail=over.message)
            return False
        except FederationError as error:
            self._log.error("consent.none", detail=error.message, hint=error.hint)
            text = self._lab.discreet(f"{error.message} {error.hint}")[:1000]
            self._say(rounds_pb2.Refusal(code=error.code, text=text))
            return False
        return True

    # -------------------------------------------------------------------------------------------------------------- data

    async def read_data(self) -> None:
        try:
            self._rule.data = await asyncio.to_thread(self._data)
        except OSError as error:
            self._rule.data = None
            self._log.error("data.not-read", detail=str(error), hint="No figure leaves until it can be read.")

    async def check_data(self, consent: Consent) -> None:
        """Read anew. Raises PolicyDenied unless the data is what was consented to."""
        await self.read_data()
        versions = self._rule.data
        try:
            named = None if versions is None else dict(zip(self._names, versions, strict=True))
            self._lab.standing.check_data(consent, named)
        except ConsentOver as over:
            self._lab.over(self._manifest.digest, over.cause)
            raise

    # ----------------------------------------------------------------------------------------------------------- budgets

    def _costs(self, task: events.Contribute) -> Charge:
        return round_charge(self._manifest, header_only=task.header_only)

    async def affords(self, task: events.Contribute) -> None:
        """Raises BudgetExhausted where the contribution could not be charged."""
        if (charge := self._costs(task)).queries:
            await asyncio.to_thread(self._lab.journal.affords, self._manifest.digest, charge, self._lab.budgets)

    async def charge(self, task: events.Contribute, size: int) -> None:
        """What an upload of so many bytes costs: on disk when this returns, before its first byte is made, and may leave. Raises
        BudgetExhausted, or ConsentOver where the job's study has no room for it."""
        job, context = self._manifest.digest, task.plan.context
        if (charge := self._costs(task)).queries:
            place = (task.round, task.attempt)
            await asyncio.to_thread(self._lab.journal.charge, job, context, place, charge, self._lab.budgets)
        try:
            await asyncio.to_thread(self._lab.standing.charge_upload, self._manifest, context, size)
        except ConsentOver as over:
            self._lab.over(job, over.cause)
            raise

    async def forgo(self, context: bytes) -> None:
        """Nothing was uploaded for this attempt, and nothing ever will be: what it was charged is free again."""
        await asyncio.to_thread(self._lab.journal.forgo, self._manifest.digest, context)
