"""A study, ``kind: Study``: one question for a bounded set of runs that differ in named parameters alone.

It holds the job that all runs are, complete and resolved; what each named key of ``runConfig`` may be; and how many runs, rounds
and bytes and how much privacy they take together, until when. Each run is a manifest of its own that names the study. ``outside``
and ``exceeded`` are what a node proves to itself before it says yes to a run without a question: whatever the study does not name
must be equal, in its canonical form. What is not comes back as differences, and nothing else is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from federation.errors import InvalidIdentity, InvalidManifest
from federation.identity.envelope import Opened, canonical, open_envelope, seal
from federation.identity.fields import moment, moment_text
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead
from federation.manifest.document import Metadata, Spec, check_spec, check_written
from federation.manifest.manifest import MAX_ENVELOPE, OWN_FIELDS, Manifest, read_opened
from federation.manifest.privacy import charges_of
from federation.manifest.schema import Name, Number, Part, Quantity, Scalar, Setting, Text, bytes_of, explained
from federation.manifest.yaml_source import Source, read_yaml
from federation.privacy.accounting import epsilon_of, repeated
from federation.secagg.parameters import TRAINING_JOB

KIND: Final = "Study"
ENVELOPE: Final = "study"
SHOWN: Final = 80
"""letters of a value in a sentence"""
MOST_RUNS: Final = 10_000
MOST_BYTES: Final = 1 << 60
LONGEST: Final = timedelta(days=366)
STEPS: Final = "local-steps"
DAY: Final = timedelta(days=1)


class Vary(Part):
    """What one key of ``runConfig`` may be, of the type that it has in the study's own job."""

    least: Number | None = Field(None, description="the smallest number; with most, and without values")
    most: Number | None = Field(None, description="the largest number")
    values: Annotated[list[Setting], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="in the place of a range: one of these"
    )

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Vary:
        if (self.least is None) != (self.most is None) or (self.least is None) == (self.values is None):
            raise ValueError("needs least and most, or values")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("has a least above its most")
        return self

    def beyond(self, own: Scalar, value: Scalar | None) -> str:
        """Why ``value`` may not stand in the place of the study's ``own``; empty when it may."""
        if value is None:
            return "it is missing"
        if type(value) is not type(own):
            return f"{_shown(value)} is no {_TYPES[type(own)]}"
        if self.values is not None:
            allowed = any(_alike(own, each) and each == value for each in self.values)
            return "" if allowed else f"{_shown(value)} is none of {_listed(self.values)}"
        if isinstance(value, bool | str) or self.least is None or self.most is None:
            return "a range is of numbers"
        return (
            "" if self.least <= value <= self.most else f"{_shown(value)} is not from {self.least:g} to {self.most:g}"
        )


_TYPES: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "fraction (written with a point, such as 1.0)",
    str: "text",
}


class StudySpec(Part):
    job: Spec = Field(description="the job that every run is: the fields of a job's spec (job.md)")
    vary: Annotated[dict[Name, Vary], Field(max_length=100)] = Field(
        {},
        description="keys of runConfig, or of the app's own config, and what each may be: {least, most} or {values}; whatever is "
        "not named is as in job",
    )
    runs: int = Field(ge=1, le=MOST_RUNS, description="so many runs at most")
    rounds: int = Field(ge=1, le=10**9, description="rounds of all runs together, final evaluations included")
    bytes: Quantity = Field(description="masked updates that one member uploads for all runs together, such as 20Gi")
    epsilon: Number | None = Field(
        None,
        gt=0,
        le=1e6,
        description="privacy that all runs together spend of a data set, at the job's delta and unit; required where the job has "
        "privacy, and only there",
    )
    expires: Text = Field(description="no run after this moment, such as 2027-01-31T12:00:00Z; a year ahead at most")


class StudyDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["Study"] = Field(description="Study")
    metadata: Metadata = Field(description="name and words about the study; its runs carry its labels")
    spec: StudySpec = Field(description="the job, what varies, and the bounds of all runs together")


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    """of the run, or the bound of the study, such as spec.runConfig.rate"""
    sentence: str

    @property
    def text(self) -> str:
        return f"{self.field}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Used:
    """What the runs of a study have taken at one node."""

    runs: int = 0
    rounds: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Study:
    envelope: bytes = field(repr=False)
    digest: bytes
    """SHA-256 of the payload, 32 bytes: what a run's metadata.study names"""
    document: StudyDocument = field(repr=False)
    template: Manifest = field(repr=False)
    """the job of every run, under the study's digest: what rules and people are asked about. It is no job itself"""
    free_seed: bool
    """the study leaves the seed of the first model to each run"""
    expires: datetime

    @property
    def name(self) -> str:
        return self.document.metadata.name

    @property
    def lead(self) -> RollLead:
        return self.template.lead

    @property
    def created(self) -> datetime:
        return moment(self.template.created, "created")

    @property
    def bounds(self) -> StudySpec:
        return self.document.spec

    @property
    def bytes(self) -> int:
        return bytes_of(self.bounds.bytes)

    @property
    def rounds_of_a_run(self) -> int:
        """Training rounds, and the final evaluation; the same for every run."""
        return self.template.terms().last_round

    def days(self, now: datetime) -> int:
        """That it goes on from ``now``, each that is begun counted."""
        return max(0, ceil((self.expires - now) / DAY))

    @property
    def lines(self) -> tuple[str, ...]:
        """Its bounds, for people."""
        bounds = self.bounds
        varied = (f"{name} {_range(vary)}" for name, vary in bounds.vary.items())
        epsilon = f", epsilon {bounds.epsilon:g}" if bounds.epsilon is not None else ""
        return (
            f"{bounds.runs} runs, {bounds.rounds} rounds, {bounds.bytes} uploaded{epsilon}, until {bounds.expires}",
            f"varies: {'; '.join(varied) or 'nothing'}{', and the seed of the first model' if self.free_seed else ''}",
        )


def load_study(text: str, source: str) -> StudyDocument:
    """A study as people write it. Raises InvalidManifest with file, line, field, and what to do."""
    read = read_yaml(text, source)
    document = validate(read)
    check_written(read, document.spec.job, ("spec", "job"))
    return document


def validate(source: Source) -> StudyDocument:
    """Schema and cross-field checks. Raises InvalidManifest."""
    if not isinstance(source.value, dict):
        raise source.error("a study is a mapping.", (), "Start with apiVersion: concord/v1 and kind: Study.")
    try:
        document = StudyDocument.model_validate(source.value)
    except ValidationError as error:
        raise explained(source, error, StudyDocument, "See study{field} in docs/reference/study.md.") from error
    spec = document.spec
    check_spec(source, spec.job, ("spec", "job"))
    try:
        moment(spec.expires, "time")
    except InvalidIdentity as error:
        raise source.error(error.message, ("spec", "expires"), "Write it in UTC, to the second.") from error
    if bytes_of(spec.bytes) > MOST_BYTES:
        raise source.error("is more than can be counted.", ("spec", "bytes"), "Ask for less.")
    if spec.job.local_steps is not None and STEPS in spec.vary:
        raise source.error("job.localSteps fixes it.", ("spec", "vary", STEPS), "Leave one of the two out.")
    if (spec.job.privacy is None) != (spec.epsilon is None):
        raise source.error(
            "a study bounds the privacy of its runs where its job has some, and only there.",
            ("spec", "epsilon"),
            "State both, or neither.",
        )
    return document


def seal_study(study: StudyDocument, run: Mapping[str, Any], key: SigningKey) -> bytes:
    """The study's envelope, signed by the lead. ``run``: its job's manifest as a document, of one run (``seal_manifest``).

    Raises InvalidManifest when it would not read back as it was written, or what varies does not fit the job.
    """
    job = dict(run["spec"])
    if study.spec.job.model.seed is None:
        job["model"] = {name: value for name, value in job["model"].items() if name != "seed"}
    document = study.model_dump(by_alias=True, exclude_none=True)
    document["spec"]["job"] = job
    document |= {name: run[name] for name in OWN_FIELDS}
    try:
        envelope = seal(document, ENVELOPE, (key,))
        _read(open_envelope(envelope, ENVELOPE, MAX_ENVELOPE))
    except InvalidIdentity as error:
        raise InvalidManifest(
            f"The study cannot be signed: {error.message}",
            hint="Write very large numbers as text, and keep the document small.",
        ) from error
    return envelope


def open_study(envelope: bytes, roll: Roll) -> Study:
    """From its signed bytes alone, complete as a manifest is; a key that the lead had on an earlier roll is good here.

    Raises InvalidIdentity for a stranger's, missing or bad signature, InvalidManifest for anything in the document.
    """
    opened = open_envelope(envelope, ENVELOPE, MAX_ENVELOPE)
    document, body, job = _read(opened)
    lead = roll.lead(opened.document["lead"])
    held = [each.key for version in (roll, *roll.past) for each in version.leads if each.id == lead.id]
    if len(opened.signers) != 1 or opened.signers[0] not in held:
        raise InvalidIdentity(
            f"The study is not signed by the lead {lead.id} on the membership roll.",
            hint="Submit it as that lead; a lead is added by a new roll that all members sign.",
        )
    if opened.document["federation"] != roll.federation:
        raise InvalidManifest("The study is for another federation.", field="federation")
    template = Manifest(
        envelope, opened.payload, opened.digest, body, job, roll.federation, lead, opened.document["created"]
    )
    return _checked(
        Study(
            envelope,
            opened.digest,
            document,
            template,
            "seed" not in opened.document["spec"]["job"]["model"],
            moment(document.spec.expires, "expires"),
        )
    )


def bytes_bound(envelope: bytes) -> int:
    """What the runs of a study upload together, of an envelope that was opened and kept before. Raises InvalidManifest."""
    document, _body, _job = _read(open_envelope(envelope, ENVELOPE, MAX_ENVELOPE))
    return bytes_of(document.spec.bytes)


def check_may_ask(study: Study, roll: Roll) -> None:
    """Raises InvalidIdentity when its lead, or the lead's member, is suspended, or it was signed with a key of before."""
    lead = roll.require_lead(study.lead.id)
    if open_envelope(study.envelope, ENVELOPE, MAX_ENVELOPE).signers != (lead.key,):
        raise InvalidIdentity(
            f"The study is signed with a key that the lead {lead.id} has no more.",
            hint="Submit it anew, from the home with the key that is on the roll.",
        )


def outside(study: Study, run: Manifest) -> tuple[Difference, ...]:
    """Every way in which ``run`` is not a run of ``study``; empty when it is one. Its bounds are ``exceeded``'s question."""
    found: list[Difference] = []
    if run.job.metadata.study != study.digest.hex():
        found.append(Difference("metadata.study", "it names another study"))
    for name in ("apiVersion", "kind", "federation", "lead"):
        found += _unlike(name, study.template.document[name], run.document[name])
    words, own = study.document.metadata, run.job.metadata
    if own.description:
        found += _unlike("metadata.description", words.description, own.description)
    found += _unlike("metadata.labels", dict(words.labels), dict(own.labels))
    vary, settings = study.bounds.vary, run.run_config
    found += _unlike("spec", _fixed(study.template, vary, study.free_seed), _fixed(run, vary, study.free_seed))
    for name, vary_ in vary.items():
        if why := vary_.beyond(study.template.run_config[name], settings.get(name)):
            found.append(Difference(f"spec.runConfig.{name}", why))
    return tuple(sorted(found, key=lambda each: each.field))


def exceeded(study: Study, used: Used, run: Manifest, now: datetime) -> tuple[Difference, ...]:
    """Which bounds of the study ``run`` would pass, after what was ``used``; empty when it fits."""
    bounds = study.bounds
    found: list[Difference] = []
    if now > study.expires:
        found.append(Difference("expires", f"the study ended at {moment_text(study.expires)}"))
    if used.runs + 1 > bounds.runs:
        found.append(Difference("runs", f"the study has {bounds.runs}, and this would be run {used.runs + 1}"))
    if (rounds := used.rounds + run.terms().last_round) > bounds.rounds:
        found.append(Difference("rounds", f"the study has {bounds.rounds}, and with this run it takes {rounds}"))
    if used.bytes >= study.bytes:
        found.append(Difference("bytes", f"the study uploads {bounds.bytes}, and they are used up"))
    if bounds.epsilon is not None and run.privacy is not None and study.template.privacy is not None:
        before = charges_of(study.template.spec, study.template.privacy)
        charges = repeated(
            (
                *((charge, times * used.runs) for charge, times in before.items()),
                *charges_of(run.spec, run.privacy).items(),
            )
        )
        cost = epsilon_of(charges, run.privacy.delta, run.privacy.unit)
        if not cost <= bounds.epsilon:
            found.append(
                Difference("epsilon", f"the study spends {bounds.epsilon:g}, and with this run it takes {cost:.4g}")
            )
    return tuple(found)


def _read(opened: Opened) -> tuple[StudyDocument, dict[str, Any], Any]:
    """(the study, its job as the document of a job, that job), checked as far as it can be without a roll."""
    document = opened.document
    own = {name: document.get(name) for name in OWN_FIELDS}
    study = validate(Source("study", {key: value for key, value in document.items() if key not in own}, {}))
    job = document["spec"]["job"]
    spec = job if "seed" in job["model"] else {**job, "model": {**job["model"], "seed": 0}}
    body = {
        "apiVersion": study.api_version,
        "kind": TRAINING_JOB,
        "metadata": document["metadata"],
        "spec": spec,
        **own,
    }
    checked = read_opened(Opened(body, canonical(body), opened.signers))
    written = study.model_dump(by_alias=True, exclude_none=True)
    written["spec"]["job"] = job
    if canonical({**written, **own}) != opened.payload:
        raise InvalidManifest(
            "The study leaves fields to their defaults.", hint="Submit it with concord apply, which fills them in."
        )
    settings = checked.spec.settings
    for name, vary in study.spec.vary.items():
        place = f"spec.vary.{name}"
        if name not in settings:
            raise InvalidManifest(
                f"{place}: the job has no such setting.",
                hint="Name one of runConfig or of the app's config.",
                field=place,
            )
        if why := vary.beyond(settings[name], settings[name]):
            raise InvalidManifest(
                f"{place}: the study's own job lies outside: {why}.", hint="Move the range, or runConfig.", field=place
            )
        if strange := [each for each in vary.values or () if not _alike(settings[name], each)]:
            raise InvalidManifest(
                f"{place}: {_shown(strange[0])} is no {_TYPES[type(settings[name])]}, as it is in the job.", field=place
            )
    return study, body, checked


def _checked(study: Study) -> Study:
    """Raises InvalidManifest when not even one run fits, or it goes on for too long."""
    if study.expires > study.created + LONGEST:
        raise InvalidManifest(
            f"The study goes on for more than {LONGEST.days} days.", hint="Give an earlier time.", field="spec.expires"
        )
    for each in exceeded(study, Used(), study.template, study.created):
        raise InvalidManifest(
            f"spec.{each.field}: not one run fits: {each.sentence}.", hint="Widen it.", field=f"spec.{each.field}"
        )
    return study


def _fixed(run: Manifest, vary: Mapping[str, Vary], free_seed: bool) -> dict[str, Any]:
    """The part of a run's spec that must be as in the study; the bundle's files by their paths."""
    spec = dict(run.document["spec"])
    told = {STEPS} if run.spec.local_steps is not None else set()  # by localSteps itself
    spec["runConfig"] = {name: value for name, value in run.run_config.items() if name not in {*vary, *told}}
    del spec["runConfigFloats"]  # every value has its type
    bundle = dict(spec["bundle"])
    bundle["files"] = {path: digest for path, digest, _size in bundle["files"]}
    spec["bundle"] = bundle
    if free_seed:
        spec["model"] = {name: value for name, value in spec["model"].items() if name != "seed"}
    return spec


def _unlike(path: str, wanted: Any, got: Any) -> Iterator[Difference]:
    """Where two plain documents differ. Types count: 1 is not true, nor 1.0."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for name in sorted({*wanted, *got}):
            yield from _unlike(f"{path}.{name}", wanted.get(name), got.get(name))
    elif not _same(wanted, got):
        yield Difference(path, f"{_shown(got)}, in the study {_shown(wanted)}")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return type(one) is type(other) and one == other


def _alike(own: Scalar, value: Scalar) -> bool:
    """Canonical JSON writes 1.0 as 1: in a list for a fraction, that is what it means."""
    return type(own) is type(value) or (type(own) is float and type(value) is int)


def _range(vary: Vary) -> str:
    return _listed(vary.values) if vary.values is not None else f"{vary.least:g} to {vary.most:g}"


def _listed(values: list[Scalar]) -> str:
    return _cut(", ".join(map(_shown, values)))


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return _cut(value if isinstance(value, str) and value.isprintable() and value else repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


__all__ = [
    "ENVELOPE",
    "KIND",
    "Difference",
    "Study",
    "StudyDocument",
    "Used",
    "Vary",
    "bytes_bound",
    "check_may_ask",
    "exceeded",
    "load_study",
    "open_study",
    "outside",
    "seal_study",
    "validate",
]
