"""Whether this lab's rules would still give a consent that stands: asked again when what they rest on is another.

Asked when the node starts and when it takes a newer roll, of each job that runs here. It can only take away: a consent that the
rules would not give any more is over for good, and a denial is never looked at. So that a consent does not come and go, the hour of
the day counts as it was when the lab answered; what lies outside the rules (data, budgets, packages) has checks of its own; and
where nobody can tell what the rules say, since a pack cannot be followed or no sandbox is to be had, the consent rests until then
(docs/decisions/0028-a-consent-is-weighed-again-and-can-only-be-taken-away.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from federation.errors import FederationError, PolicyDenied
from federation.identity.consent import Consent, Given, open_consent
from federation.identity.credential import NodeCredential
from federation.identity.fields import moment_text
from federation.manifest.manifest import Manifest
from federation.policy.rules import evaluate
from federation.policy.verdict import Verdict
from node_agent.consent.decision import Situation, question_of
from node_agent.consent.standing import NOTHING, ConsentOver
from node_agent.store.journal import Journal
from node_agent.store.verdicts import KeptVerdict

log = structlog.get_logger()

PASSING: Final = frozenset({"pack", "sandbox"})
"""rules whose word is of this machine's state today, and not of the job"""


@dataclass(frozen=True, slots=True)
class Weighed:
    outcome: Literal["stands", "doubtful", "over"]
    reasons: tuple[str, ...] = ()
    verdict: Verdict | None = None


def weigh_again(manifest: Manifest, consent: Consent, given: Given | None, at: Situation) -> Weighed:
    """``given``: how the consent came about in the end; of a run of a study, how the study's did. None: nobody knows."""
    names = (consent.data_set, *manifest.spec.extra_data_sets)
    if gone := [name for name in names if name not in at.data_sets]:
        return Weighed("doubtful", (f"data set {gone[0]} is not in node.yaml any more",))
    answered = consent.issued.astimezone(at.now.tzinfo).strftime("%H:%M")
    verdict = evaluate(at.policy, replace(question_of(manifest, names, at), now=answered))
    denials = [finding for finding in verdict.findings if finding.effect == "denies"]
    lasting = tuple(dict.fromkeys(finding.text for finding in denials if finding.rule not in PASSING))
    if lasting:
        return Weighed("over", lasting, verdict)
    asks = tuple(dict.fromkeys(finding.text for finding in verdict.findings if finding.effect == "asks"))
    if asks and not _may_have_said(given, verdict):
        return Weighed("over", asks, verdict)
    if denials or not verdict.findings:
        return Weighed("doubtful", tuple(finding.text for finding in denials) or ("no rule speaks",), verdict)
    return Weighed("stands", (), verdict)


def _may_have_said(given: Given | None, verdict: Verdict) -> bool:
    """Whether the consent was given by a person whom the rules of today let decide."""
    if given is None or given.how != "person":
        return False
    return verdict.deputies is None or given.by in verdict.deputies


class Weighing:
    def __init__(self, journal: Journal, credential: NodeCredential, situation: Callable[[], Situation]) -> None:
        """``situation``: as it is now; raises FederationError where nobody can tell it."""
        self._journal, self._credential, self._situation = journal, credential, situation
        self._resting: set[bytes] = set()
        """jobs whose consent rests, since nobody can tell what the rules say"""
        self._over: dict[bytes, tuple[str, ...]] = {}

    def again(self, manifest: Manifest) -> Weighed:
        """What the rules say now; where they take the consent away, their verdict is on disk when this returns."""
        job = manifest.digest
        consent = self._held(job)
        if consent is None:
            return Weighed("stands")  # there is none, and whoever asks for it is refused
        try:
            weighed = weigh_again(manifest, consent, self._given(manifest, consent), self._situation())
        except FederationError as error:
            weighed = Weighed("doubtful", (error.message,))
        self._resting.discard(job)
        if weighed.outcome == "doubtful":
            self._resting.add(job)
            log.error("consent.rests", job=job.hex()[:12], name=manifest.name, reasons=weighed.reasons)
        elif weighed.outcome == "over":
            self._over[job] = weighed.reasons
            if weighed.verdict is not None:
                made = moment_text(datetime.now(UTC))
                self._journal.keep_verdict(KeptVerdict(job, "weighed", made, weighed.verdict.to_bytes()))
        return weighed

    def reasons(self, job: bytes) -> tuple[str, ...]:
        """Why the rules took a consent away."""
        return self._over.get(job, ())

    def check(self, manifest: Manifest) -> None:
        """Of a consent that rests, whether it rests still. Raises PolicyDenied; ConsentOver where the rules take it away."""
        if manifest.digest not in self._resting:
            return
        weighed = self.again(manifest)
        why = "; ".join(weighed.reasons)
        if weighed.outcome == "over":
            raise ConsentOver(f"This lab's rules do not give the consent any more: {why}.", "rules")
        if weighed.outcome == "doubtful":
            raise PolicyDenied(f"Nobody can tell whether this lab's rules still allow the job: {why}.", hint=NOTHING)

    def _held(self, job: bytes) -> Consent | None:
        record = self._journal.consent(job)
        if record is None or not record.granted:
            return None
        try:
            return open_consent(record.envelope, self._credential)
        except FederationError:
            return None

    def _given(self, manifest: Manifest, consent: Consent) -> Given | None:
        if consent.given is None or consent.given.how != "study":
            return consent.given
        study = self._held(bytes.fromhex(manifest.job.metadata.study or ""))
        return study.given if study is not None else None
