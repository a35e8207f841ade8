"""What this lab says to a job: its own policy file, its own roll, its own data sets and runtime. The answer is signed and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from federation.catalogue import entry as catalogue
from federation.catalogue.matching import choose, told
from federation.errors import BudgetExhausted, FederationError, InvalidManifest, PolicyDenied
from federation.governance.charter import AUDIENCES
from federation.identity.consent import BY_RULE, Binding, Consent, Given
from federation.identity.roll import Roll
from federation.manifest.binding import binding_of
from federation.manifest.manifest import Manifest, examples_bucket
from federation.manifest.privacy import charges_of, stated_too_low
from federation.policy.question import DataFacts, Question, StudyAsked
from federation.policy.rules import Policy, evaluate
from federation.policy.verdict import Verdict
from federation.privacy.accounting import Charge
from federation.privacy.budget import Entry, check_consent
from node_agent.runner.runtime import runtime_digest
from node_agent.settings import DataSet, budget_around

VALID: Final = timedelta(days=30)
MOST_OF_ONE: Final = 16 << 10
"""bytes of an entry in a consent; a longer one goes without its columns"""
MOST_DESCRIBED: Final = 128 << 10
"""bytes of all entries in a consent"""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision depends on, besides the job."""

    policy: Policy
    roll: Roll
    member: str
    node: str
    data_sets: Mapping[str, DataSet]
    sandbox: str
    missing: Callable[[str, Mapping[str, str]], tuple[str, ...]]
    """(python, packages) -> what this node lacks"""
    now: datetime
    """local time"""
    version_of: Callable[[DataSet], bytes]
    """of what a data set holds, 32 bytes, as it may leave (``node_agent.catalogue.versions``); raises PolicyDenied"""
    published: Callable[[], tuple[catalogue.Entry, ...]] = tuple
    """what this lab's catalogue tells everybody: why none of it fits is told, too"""
    ledger: Callable[[str], tuple[Entry, ...]] = lambda _name: ()
    """of a data set; raises a FederationError when it cannot be told"""
    study: StudyAsked | None = None
    """the bounds of the study that is asked about, or inside which the job says it lies"""


def chosen_data(manifest: Manifest, data_sets: Mapping[str, DataSet]) -> tuple[str, ...]:
    """The data sets that the job would use here, its own first; empty when there is none that fits."""
    fitting = choose(manifest.spec.data_set, (held.entry(name) for name, held in data_sets.items())).name
    extra = list(manifest.spec.extra_data_sets)
    if not fitting or any(name not in data_sets for name in extra):
        return ()
    return (fitting, *extra)


def plans_of(manifest: Manifest, names: tuple[str, ...]) -> dict[str, dict[Charge, int]]:
    """What the job as a whole charges each of its data sets here."""
    if manifest.privacy is None:
        return {}
    return {name: charges_of(manifest.spec, manifest.privacy) for name in names}


def _privacy(manifest: Manifest, names: tuple[str, ...], at: Situation) -> tuple[str, ...]:
    budgets = {name: at.data_sets[name].budget for name in names}
    if shared := tuple(
        f"budget: data set {name} has files in common with one that has a privacy budget"  # the other's name stays here
        for name in names
        if budget_around(name, at.data_sets)
    ):
        return shared
    if manifest.privacy is None:
        return tuple(
            f"budget: data set {name} has a privacy budget, and the job has no differential privacy"
            for name, budget in budgets.items()
            if budget is not None
        )
    if cost := stated_too_low(manifest.spec):
        return (f"privacy: the job states epsilon {manifest.privacy.epsilon:g}, and it costs {cost:.6g}",)
    denials: tuple[str, ...] = ()
    for name, planned in plans_of(manifest, names).items():
        try:
            entries = tuple(entry for entry in at.ledger(name) if entry.job != manifest.digest)
            if (budget := budgets[name]) is not None:
                check_consent(entries, planned, budget, name)
        except BudgetExhausted as error:
            denials += (f"budget: {error.message}",)
    return denials


def question_of(manifest: Manifest, names: tuple[str, ...], at: Situation) -> Question:
    """What the policy is asked about a job that would use the data sets ``names`` here."""
    return Question(
        manifest,
        at.roll,
        at.member,
        names,
        at.now.strftime("%H:%M"),
        at.sandbox,
        date=at.now.date().isoformat(),
        facts=tuple(_facts(at.data_sets[name].entry(name)) for name in names),
        runtime=runtime_digest() if manifest.spec.runtime.digest is not None else "",
        study=at.study,
    )


def _facts(data: catalogue.Entry) -> DataFacts:
    return DataFacts(data.name, tuple(data.tags or ()), data.legal_basis or "")


def bound(manifest: Manifest, names: tuple[str, ...], verdict: bytes, at: Situation, study: bytes = b"") -> Binding:
    """What a consent binds here and now. Raises PolicyDenied when a data set cannot be read."""
    return binding_of(
        manifest,
        data=tuple((name, at.version_of(at.data_sets[name])) for name in names),
        verdict=verdict,
        roll=at.roll.digest,
        plans=plans_of(manifest, names),
        study=study,
    )


def described(manifest: Manifest, binds: Binding, at: Situation) -> tuple[bytes, ...]:
    """What goes with a consent into the job's release: of each data set that it binds the lab's published entry.

    Not of data that have changed since they were published; and where the release is for the public, only what the lab lets go
    there.
    """
    charter = at.roll.charter.audience
    audience = min((charter, manifest.spec.release.audience or charter), key=AUDIENCES.index)
    try:
        published = {entry.name: entry for entry in at.published()}
    except FederationError:  # a damaged file: the catalogue stops and says so, and no job waits for it
        return ()
    kept: list[bytes] = []
    for name, version in binds.data:
        entry = published.get(name)
        if entry is None or entry.version not in {None, version.hex()} or (audience == "public" and not entry.releases):
            continue
        data = entry.canonical
        if len(data) > MOST_OF_ONE:  # its columns are most of it
            data = entry.model_copy(update={"columns": None}).canonical
        if sum(map(len, kept)) + len(data) <= MOST_DESCRIBED:
            kept.append(data)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say. Where a person must decide, ``consent`` is what this lab signs when that person says yes."""

    consent: Consent
    asks: tuple[str, ...]
    """why a person must decide; empty where the rules alone do"""
    deputies: tuple[str, ...] | None
    """who may decide; None: the rules name nobody"""
    verdict: Verdict
    """word for word; what is no rule's (data, runtime, budgets) stands in the consent's reasons alone"""

    def answer(self, given: Given) -> Consent:
        """A consent, or a denial with every reason; where a person must decide and none has, a denial that says so."""
        if self.asks and given.how == "rule":
            return replace(denied(self.consent, "", given), reasons=self.asks)
        return self.consent


def decide(
    manifest: Manifest, at: Situation, given: Given = BY_RULE, until: datetime | None = None, study: bytes = b""
) -> Consent:
    return weigh(manifest, at, given, until, study).answer(given)


def weigh(
    manifest: Manifest, at: Situation, given: Given = BY_RULE, until: datetime | None = None, study: bytes = b""
) -> Decision:
    """``until``: when the consent ends, if a person said so. ``study``: SHA-256 of the envelope of this lab's consent to the study
    inside which the job lies."""
    names = chosen_data(manifest, at.data_sets)
    verdict = evaluate(at.policy, question_of(manifest, names, at))
    denials = () if verdict.granted or verdict.needs_person else verdict.reasons
    denials += tuple(
        f"data set {name}: its path does not exist on this node"
        for name in names
        if not Path(at.data_sets[name].path).exists()
    )
    if not names:
        denials += told(manifest.spec.data_set, at.published())
    lacks = at.missing(manifest.spec.runtime.python, manifest.spec.runtime.packages)
    denials += tuple(f"runtime: this node lacks {lack}; nothing is installed for a job" for lack in lacks)
    denials += _privacy(manifest, names, at)
    weight = 0
    if names:
        ring = manifest.spec.secure_aggregation
        try:
            weight = examples_bucket(at.data_sets[names[0]].examples, ring.weighting, ring.weight_cap)
        except InvalidManifest as error:
            denials += (error.message,)
    binds = None
    if not denials:
        try:
            binds = bound(manifest, names, verdict.digest, at, study)
        except PolicyDenied as error:
            denials += (f"data: {error.message}",)
    consent = Consent(
        job=manifest.digest,
        member=at.member,
        node=at.node,
        granted=not denials,
        reasons=denials or verdict.reasons,
        data_set=names[0] if names else "",
        weight=0 if denials else weight,
        figures=manifest.exact_figures,
        lacks=lacks,
        issued=at.now.replace(microsecond=0),
        expires=(until or at.now + VALID).replace(microsecond=0),
        binds=binds,
        given=given,
        described=() if binds is None else described(manifest, binds, at),
    )
    asks = verdict.reasons if verdict.needs_person and consent.granted else ()
    return Decision(consent, asks, verdict.deputies, verdict)


def denied(consent: Consent, reason: str, given: Given) -> Consent:
    """In the place of what the rules would allow: a person, or the passing of time, said no. What the rules deny they deny."""
    reasons = (reason,) if consent.granted else (*consent.reasons, reason)
    return replace(consent, granted=False, reasons=reasons, weight=0, binds=None, given=given, described=())
