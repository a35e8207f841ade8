"""From a job's last round to its release: the vote that it takes, the model that members give, the head that witnesses cosign."""

from __future__ import annotations

import asyncio

import structlog

from coordinator.api.sessions import Sessions
from coordinator.audit.book import LogBook
from coordinator.jobs.case import Case
from coordinator.jobs.cases import Cases
from coordinator.releases.desk import ReleaseDesk
from coordinator.releases.witnessing import witnessed_head
from federation.errors import FederationError
from federation.secagg.messages import Sealing
from federation.v1 import rounds_pb2

log = structlog.get_logger()


class Publication:
    def __init__(self, cases: Cases, releases: ReleaseDesk, book: LogBook, sessions: Sessions) -> None:
        self._cases, self._releases, self._book, self._sessions = cases, releases, book, sessions

    def rounds_over(self, case: Case | None) -> None:
        """Members give their final model, once they may: when the job's gates have passed, and with the vote that it takes."""
        if case is None or case.driver is None or self._cases.level(case):
            return  # while it is held nothing of it is released
        try:
            step = self._releases.after_rounds(case.manifest, case.consents)
        except FederationError as error:
            self._cases.fail(case, f"The release could not be proposed: {error.message}")
            return
        case.proposed = bool(step.waits)
        if step.withheld:
            self._cases.end(case, "finished", step.withheld)
            self._cases.tell(case, rounds_pb2.Finished(rounds=case.manifest.spec.rounds))
        elif step.waits:
            self._cases.become(case, case.state, step.waits)
            self._cases.freed()
        else:
            case.driver.want_release(step.decision)

    def final_state(self, case: Case | None, blob: bytes, sealings: tuple[Sealing, ...]) -> None:
        """A member has given the final model, or f + 1 agree where it lies sealed: its release is made, once."""
        if case is not None and not case.publishing and not self._cases.level(case):
            case.publishing = True
            self._cases.spawn(self.publish(case, blob, sealings))

    async def publish(self, case: Case, blob: bytes, sealings: tuple[Sealing, ...]) -> None:
        try:
            head = await witnessed_head(
                self._releases,
                self._book,
                self._sessions,
                case.manifest,
                needed=lambda: self._is_open(case) and not self._cases.level(case),
                say=lambda why: self._cases.become(case, case.state, why),
            )
            if head is None:
                # It has ended, or is held: members give their model again when the halt is lifted.
                case.publishing = False
                return
            release = await asyncio.to_thread(
                self._releases.publish, case.manifest, case.consents, head, blob, sealings
            )
        except FederationError as error:
            log.error("release.failed", **case.names, detail=error.message)
            if self._is_open(case):
                self._cases.fail(case, f"The release could not be made: {error.message} {case.refused}".rstrip())
            return
        if not self._is_open(case):
            return  # it was stopped or withdrawn while its release was made: nothing of it is published
        self._cases.end(case, "finished", "the release is published", release=release)
        self._releases.published(case.manifest, release)
        self._cases.tell(case, rounds_pb2.Finished(rounds=case.manifest.spec.rounds))

    def _is_open(self, case: Case) -> bool:
        return self._cases.get(case.digest) is not None
