"""Consents that members took back: kept with the job, shown to everybody, and what is left of a job without them.

A revocation is evidence of its job, verbatim, beside the consent that it ends. Once it is here, that node's answer to the job never
changes again, whatever comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.rounds.driver import JobDriver
from coordinator.store.database import Change, ConsentRow
from federation.errors import VerificationFailed
from federation.identity.revocation import TAKEN_BACK, Revocation, consent_digest
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest

EVIDENCE: Final = "revocation"
OVER: Final = frozenset({"revoked", "expired"})


@dataclass(frozen=True, slots=True)
class Taken:
    """A revocation that was checked, and the answer that it makes of the consent."""

    answer: ConsentRow
    new: bool


def answer_of(revocation: Revocation, known: ConsentRow | None) -> Taken:
    """Raises VerificationFailed when it ends another consent than the one that is here."""
    if known is not None and known.state in OVER:
        return Taken(known, new=False)
    envelope = known.envelope if known is not None else b""
    if envelope and consent_digest(envelope) != revocation.consent:
        raise VerificationFailed("The revocation is of another consent than the one that this node gave.")
    state = "revoked" if revocation.cause in TAKEN_BACK else "expired"
    row = ConsentRow(revocation.member, revocation.node, state, (revocation.sentence,), envelope)
    return Taken(row, new=True)


def keep(change: Change, now: float, job: str, answer: ConsentRow, envelope: bytes) -> None:
    """State, evidence and entry in one transaction."""
    change.put_consent(job, answer)
    change.put_evidence(job, EVIDENCE, len(change.pieces(job, EVIDENCE)), envelope)
    change.add_line(job, now, answer.reasons[0], answer.member)
    change.audit(now, EVIDENCE, f"{job} {answer.member} {answer.node}", envelope)


def too_few(
    manifest: Manifest,
    roll: Roll,
    placement: Iterable[tuple[str, str]],
    answers: Mapping[tuple[str, str], ConsentRow],
    driver: JobDriver | None,
) -> str:
    """Why the job cannot go on with those that are left; empty when it can."""
    left = [member for member, node in placement if not over(answers.get((member, node)))]
    people = manifest.spec.participants
    places = {roll.member(member).jurisdiction for member in left}
    if len(left) < people.min_members:
        return f"{len(left)} members are left, and {people.min_members} are needed"
    if len(places) < people.min_jurisdictions:
        return f"{len(places)} jurisdictions are left, and {people.min_jurisdictions} are needed"
    bench = driver.machine.bench if driver is not None else None
    if bench is not None and len({seat.member for seat in bench.seats} & set(left)) < bench.quorums.q:
        return f"fewer than {bench.quorums.q} members of the roster are left, and so many must sign"
    return ""


def over(answer: ConsentRow | None) -> bool:
    return answer is not None and answer.state in OVER
