"""What is written down when the machine moves: evidence for the release, views and lines for people, audit entries.

All of it goes into the transaction that stores the events; nothing here decides anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from coordinator.rounds.views import RoundViews
from coordinator.store.database import Change
from federation.secagg import codec, events
from federation.secagg.figures import mean_figures
from federation.secagg.messages import Announcement, Certificate, Receipt
from federation.secagg.parameters import Terms

REFUSALS_KEPT: Final = 100
"""of each member; a story does not grow with a peer's patience"""
PROOFS_KEPT: Final = 8
"""of each member, beside its refusals: whoever says much that is wrong cannot so get rid of a proof"""
ABSENCES_KEPT: Final = 100


class Chronicle:
    def __init__(self, job: str, terms: Terms, views: RoundViews) -> None:
        self._job, self._terms = job, terms
        self.views = views
        self._refusals: Counter[str] = Counter()
        self._proofs: Counter[str] = Counter()
        self._absences = 0

    def write(
        self, change: Change, instruction: events.CollectorInstruction, roster: Sequence[str], now: float
    ) -> None:
        match instruction:
            case events.PhaseChanged():
                self._phase(change, instruction, roster, now)
            case events.RosterFormed():
                self._roster(change, instruction, now)
            case events.RoundClosed():
                self._closed(change, instruction, now)
            case events.StateCertified():
                receipts = codec.encode(instruction.receipts, tuple[Receipt, ...])
                change.put_evidence(self._job, "receipts", instruction.round, receipts)
                self._certified(change, instruction)
                change.audit(now, "certificate", f"{self._job} {instruction.round}", receipts)
            case events.Misconduct():
                self._misconduct(change, instruction, now)
            case events.Tell(message=Announcement() as announcement):
                encoded = codec.encode(announcement, Announcement)
                change.put_evidence(self._job, "announcement", announcement.round, encoded)
            case _:
                pass

    def _phase(self, change: Change, moved: events.PhaseChanged, roster: Sequence[str], now: float) -> None:
        view = self.views.change(moved, roster, now)
        if view is not None:
            change.put_round(self._job, view.round, view.attempt, view.SerializeToString())
        if moved.phase in {"aborted", "void"}:
            change.add_line(self._job, now, f"round {moved.round}.{moved.attempt} {moved.phase}: {moved.reason}")
            change.audit(now, "round-closed", f"{self._job} {moved.round} {moved.attempt} {moved.phase}")
        elif moved.phase == "certifying" and moved.reason and self._absences < ABSENCES_KEPT:
            self._absences += 1
            change.add_line(self._job, now, f"round {moved.round} goes on without: {moved.reason}")

    def leave(self, change: Change, reason: str, now: float) -> None:
        """The job ends in the middle of a round."""
        for view in self.views.leave(f"the job ended: {reason}", now):
            change.put_round(self._job, view.round, view.attempt, view.SerializeToString())

    def _roster(self, change: Change, formed: events.RosterFormed, now: float) -> None:
        members = tuple(seat.member for seat in formed.seats)
        change.update_job(self._job, roster=members, epoch=formed.epoch)
        change.put_evidence(self._job, "roster", formed.epoch, codec.encode(formed.roster, events.Roster))
        certificate = codec.encode(formed.certificate, events.RosterCertificate)
        change.put_evidence(self._job, "roster-certificate", formed.epoch, certificate)
        title = "roster" if formed.epoch == 1 else f"roster of epoch {formed.epoch},"
        change.add_line(self._job, now, f"{title} of {len(members)} formed: {', '.join(members)}")
        change.audit(now, "roster", f"{self._job} {formed.epoch}", certificate)

    def _closed(self, change: Change, closed: events.RoundClosed, now: float) -> None:
        self.views.close((closed.round, closed.attempt), closed.total_weight)
        certificate = codec.encode(closed.certificate, Certificate)
        change.put_evidence(self._job, "certificate", closed.round, certificate)
        change.update_job(self._job, rounds_closed=min(closed.round, self._terms.rounds))
        change.audit(now, "round-closed", f"{self._job} {closed.round} {closed.attempt} closed", certificate)

    def _certified(self, change: Change, certified: events.StateCertified) -> None:
        """The figures that q members agree on."""
        attempts = [attempt for number, attempt in self.views.views if number == certified.round]
        if attempts:
            key = (certified.round, max(attempts))
            view = self.views.figures(key, mean_figures(certified.receipts[0].figures, self._terms))
            change.put_round(self._job, *key, view.SerializeToString())

    def _misconduct(self, change: Change, refused: events.Misconduct, now: float) -> None:
        violation, member = refused.violation, refused.member
        counted, most = (self._proofs, PROOFS_KEPT) if refused.proof else (self._refusals, REFUSALS_KEPT)
        counted[member] += 1
        if counted[member] > most:
            return
        change.add_line(self._job, now, f"{member}: refused ({violation.check}): {violation.message}")
        change.audit(now, "misconduct", f"{self._job} {member} {violation.check}", violation.evidence)
