"""Studies for a lead: read, checked, packed and signed as a job is; submitted; and listed with who consented.

The home keeps each study that it signed. By that a run may name its study by name, and its lead is told, before any member is
asked, what of it lies outside.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coordinator.client.channel import UNARY_SECONDS, spoken_errors
from coordinator.client.files import make_private_folder, read_file, write_file
from coordinator.client.home import Home
from coordinator.client.said import note
from coordinator.client.submission import NONCE_BYTES, Draft, Packed, packed, rehearsed, sealed
from coordinator.client.terminal import amount, plain, say, table
from coordinator.client.terminal import progress as bar_of
from coordinator.client.views import Consent
from federation.errors import FederationError, InvalidManifest, NotFound
from federation.identity.envelope import open_envelope
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.manifest.document import JobDocument, JobMetadata
from federation.manifest.manifest import Manifest, open_manifest
from federation.manifest.study import ENVELOPE, KIND, Study, StudyDocument, load_study, open_study, outside, seal_study
from federation.manifest.yaml_source import Source, read_yaml
from federation.secagg.parameters import TRAINING_JOB
from federation.v1 import studies_pb2, studies_pb2_grpc

if TYPE_CHECKING:
    from coordinator.client.sdk import Federation

HEX_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class StudyDraft:
    """A study as it was written, and the folder that its paths are relative to."""

    document: StudyDocument
    folder: Path
    source: Source

    @property
    def job(self) -> Draft:
        """Its job, as if one run were submitted."""
        words = self.document.metadata
        metadata = JobMetadata.model_validate(words.model_dump(by_alias=True))
        document = JobDocument.model_validate(
            {
                "apiVersion": self.document.api_version,
                "kind": TRAINING_JOB,
                "metadata": metadata,
                "spec": self.document.spec.job,
            }
        )
        return Draft(document, self.folder, self.source)

    @contextmanager
    def placed(self, *place: str) -> Iterator[None]:
        """What is found wrong with a field later is told with its line too. ``place``: where the spec that it is of stands."""
        try:
            yield
        except InvalidManifest as error:
            if error.line or not error.field:
                raise
            path = (*place, *error.field.split(".")[1:])
            raise self.source.error(error.message.removeprefix(f"{error.field}: "), path, error.hint) from None


def is_study(source: Source) -> bool:
    return isinstance(source.value, dict) and source.value.get("kind") == KIND


def study_draft(text: str, name: str, folder: Path) -> StudyDraft:
    """Raises InvalidManifest."""
    return StudyDraft(load_study(text, name), folder, read_yaml(text, name))


@dataclass(frozen=True, slots=True)
class PreparedStudy:
    study: Study
    packed: Packed
    signed_before: bool


def prepare_study(draft: StudyDraft, home: Home, roll: Roll) -> PreparedStudy:
    """Signs, keeps, and sends nothing. The same study and app give the same signed study again."""
    lead, key = home.profile("lead"), home.identity_key()
    with draft.placed("spec", "job"):
        job = packed(draft.job, roll)
        run = _one_run(job, home, roll, lead.id, key, moment_text(datetime.now(UTC)), secrets.token_bytes(NONCE_BYTES))
    with draft.placed("spec"):
        for kept in kept_studies(home, roll):
            if kept.name == draft.document.metadata.name and _same(kept, draft, job, home, roll, key):
                return PreparedStudy(kept, job, True)
        study = open_study(seal_study(draft.document, run.document, key), roll)
    make_private_folder(_folder(home))
    write_file(_folder(home) / f"{study.digest.hex()}.json", study.envelope)
    return PreparedStudy(study, job, False)


def _one_run(job: Packed, home: Home, roll: Roll, lead: str, key: SigningKey, created: str, nonce: bytes) -> Manifest:
    return open_manifest(sealed(job, home, roll, lead, key, created, nonce), roll)


def _same(kept: Study, draft: StudyDraft, job: Packed, home: Home, roll: Roll, key: SigningKey) -> bool:
    """Whether the kept study is what this draft would be signed as, with the same time and nonce."""
    own = kept.template.document
    run = _one_run(job, home, roll, kept.lead.id, key, own["created"], bytes.fromhex(own["nonce"]))
    return seal_study(draft.document, run.document, key) == kept.envelope


def kept_studies(home: Home, roll: Roll) -> Iterator[Study]:
    """Those that this home signed, the newest first."""
    found = []
    for path in sorted(_folder(home).glob("*.json")) if _folder(home).is_dir() else ():
        try:
            found.append(open_study(read_file(path, what="The signed study"), roll))
        except FederationError:
            continue  # of a key, or a roll, of before
    yield from sorted(found, key=lambda study: (study.created, study.digest), reverse=True)


def _folder(home: Home) -> Path:
    return home.path / "studies"


def named(source: Source, home: Home) -> Source:
    """A job's document with its study named by digest, where it is written by name. Raises NotFound."""
    document = source.value
    metadata = document.get("metadata") if isinstance(document, dict) else None
    name = metadata.get("study") if isinstance(metadata, dict) else None
    if not isinstance(document, dict) or not isinstance(metadata, dict) or not isinstance(name, str):
        return source
    if len(name) == HEX_DIGITS and set(name) <= set("0123456789abcdef"):
        return source
    roll = home.required_roll()
    study = next((study for study in kept_studies(home, roll) if study.name == name), None)
    if study is None:
        raise NotFound(
            f"{home.path} has signed no study named {name[:80]!r}.",
            hint="Submit the study from this home first, or name it by its digest: concord get studies",
        )
    return replace(source, value={**document, "metadata": {**metadata, "study": study.digest.hex()}})


def told_outside(manifest: Manifest, home: Home, roll: Roll) -> None:
    """What of a run lies outside its study: those members are asked anew, and shown just this."""
    for study in kept_studies(home, roll):
        if study.digest.hex() == manifest.job.metadata.study:
            for each in outside(study, manifest):
                say(f"note: outside the study {study.name}: {each.text}")


# ------------------------------------------------------------------------------------------------------------ at a coordinator


@dataclass(frozen=True, slots=True)
class StudyState:
    """As the coordinator tells of it; every text came from a peer."""

    name: str
    digest: bytes
    lead: str
    submitted: str
    bounds: tuple[str, ...]
    """from its signed document; empty where this home has no roll to open it by"""
    consents: tuple[Consent, ...]

    def as_document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "digest": self.digest.hex(),
            "lead": self.lead,
            "submitted": self.submitted,
            "bounds": list(self.bounds),
            "consents": [consent.as_document() for consent in self.consents],
        }


class StudyCalls:
    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._stub = studies_pb2_grpc.StudiesStub(federation.channel)

    def submit(self, prepared: PreparedStudy) -> bool:
        """Whether it is new: the same study again changes nothing."""
        with bar_of("bundle") as bar:
            self._federation.put_packed(prepared.packed, bar)
        with spoken_errors(self._federation.route):
            reply = self._stub.Submit(
                studies_pb2.SubmitStudyRequest(study=prepared.study.envelope), timeout=UNARY_SECONDS
            )
        if reply.study != prepared.study.digest:
            raise FederationError(
                "The coordinator answered with the digest of another study.", hint="Tell the operator."
            )
        note(self._federation.home.path, self._federation.endpoint.federation, "submission", prepared.study.envelope)
        return bool(reply.created)

    def list(self) -> list[StudyState]:
        roll = self._federation.home.roll()
        with spoken_errors(self._federation.route):
            reply = self._stub.List(studies_pb2.ListStudiesRequest(), timeout=UNARY_SECONDS)
        return [_state_of(view, roll) for view in reply.studies]


def _state_of(view: studies_pb2.StudyView, roll: Roll | None) -> StudyState:
    bounds: tuple[str, ...] = ()
    if roll is not None:
        try:
            study = open_study(view.envelope, roll)
            bounds = study.lines if study.digest == view.study else ()
        except FederationError:
            bounds = ()
    return StudyState(
        plain(view.name),
        view.study,
        plain(view.lead),
        plain(view.submitted),
        bounds,
        tuple(
            Consent(
                plain(item.member), plain(item.node), plain(item.state), tuple(map(plain, item.reasons)), item.envelope
            )
            for item in view.consents
        ),
    )


def studies_table(studies: list[StudyState]) -> None:
    rows = []
    for study in studies:
        said = " ".join(f"{each.member}:{each.state}" for each in study.consents) or "nobody was asked"
        rows.append((study.name, study.lead, study.digest.hex()[:12], said, study.bounds[0] if study.bounds else "-"))
    table(("NAME", "LEAD", "DIGEST", "MEMBERS", "BOUNDS"), rows)


def told_rehearsal(draft: StudyDraft) -> dict[str, Any]:
    """What would be signed, by a key that is thrown away, and for nobody. Sends nothing. Raises InvalidManifest."""
    with draft.placed("spec", "job"):
        run, bundle, _release = rehearsed(draft.job)
    with draft.placed("spec"):
        envelope = seal_study(draft.document, run, SigningKey.generate())
    say(f"every run would bring these {len(bundle.files)} files, {amount(bundle.size)}:")
    for path, _digest, size in bundle.files:
        say(f"  {path} ({amount(size)})")
    document = open_envelope(envelope, ENVELOPE).document
    return {name: document[name] for name in ("apiVersion", "kind", "metadata", "spec")}
