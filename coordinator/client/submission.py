"""From a job document to a signed manifest: read, check, pack, sign. The same document and app give the same signed job again."""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from coordinator.client.files import make_private_folder, read_file, write_file
from coordinator.client.home import Home
from federation.errors import InvalidManifest
from federation.identity.envelope import open_envelope
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey, transcript
from federation.identity.roll import Roll
from federation.manifest.app_folder import read_app_folder
from federation.manifest.bundle import AppInfo, Bundle, app_info, pack
from federation.manifest.document import JobDocument, Recipient, job_of
from federation.manifest.invitation import check_reachable
from federation.manifest.manifest import Manifest, for_rehearsal, open_manifest, seal_manifest
from federation.manifest.yaml_source import Source, read_yaml
from federation.sealing import PUBLIC_BYTES, recipient_key
from federation.weights.tensors import read_arrays

NONCE_BYTES: Final = 16
DOCUMENT_LIMIT: Final = 1 << 20
JOB_FIELDS: Final = ("apiVersion", "kind", "metadata", "spec")
"""of a manifest; the others say who signed it, when, and for which federation"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A job as it was written, checked by itself, and the folder that its paths are relative to."""

    document: JobDocument
    folder: Path
    source: Source

    @contextmanager
    def placed(self) -> Iterator[None]:
        """What is found wrong with a field later is told with its line too."""
        try:
            yield
        except InvalidManifest as error:
            if error.line or not error.field:
                raise
            message = error.message.removeprefix(f"{error.field}: ")
            raise self.source.error(message, tuple(error.field.split(".")), error.hint) from None


@dataclass(frozen=True, slots=True)
class Snapshot:
    path: Path
    digest: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    document: JobDocument
    app: AppInfo
    bundle: Bundle
    snapshot: Snapshot | None
    manifest: Manifest
    signed_before: bool

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def digest(self) -> bytes:
        return self.manifest.digest

    @property
    def envelope(self) -> bytes:
        return self.manifest.envelope


def read_draft(path: Path, home: Home | None = None) -> Draft:
    """The job at ``path``, "-" for stdin. ``home``: whose studies a run may name by name. Raises InvalidManifest, NotFound,
    InvalidUsage."""
    return draft_of(*read_document(path), home)


def read_document(path: Path) -> tuple[str, str, Path]:
    """(text, its name for people, the folder that its paths are relative to); "-" for stdin. Raises as ``read_draft``."""
    if str(path) == "-":
        return _text(sys.stdin.buffer.read(DOCUMENT_LIMIT + 1), "stdin"), "stdin", Path.cwd()
    return _text(read_file(path, what="The job document"), str(path)), str(path), path.resolve().parent


def draft_of(text: str, name: str, folder: Path, home: Home | None = None) -> Draft:
    """Raises InvalidManifest, NotFound."""
    read = read_yaml(text, name)
    if home is not None:
        from coordinator.client.studies import named

        read = named(read, home)
    return Draft(job_of(read), folder, read)


def rehearse(draft: Draft) -> tuple[dict[str, Any], Bundle]:
    """The job with all defaults, those of its app too, and what would be sent. Signs and sends nothing that anybody would take.

    Raises InvalidManifest for all that ``prepare`` would, short of the keys and the roll.
    """
    with draft.placed():
        document, bundle, recipients = rehearsed(draft)
    resolved = {key: value for key, value in document.items() if key in JOB_FIELDS}
    del resolved["spec"]["bundle"]
    resolved["spec"] = {"app": draft.document.spec.app, **resolved["spec"], "release": recipients}
    return resolved, bundle


def rehearsed(draft: Draft) -> tuple[dict[str, Any], Bundle, dict[str, Any]]:
    """(the manifest's document, its bundle, its release as it was written): signed by a key that is thrown away, for nobody."""
    bundle, app = _read_app(draft)
    snapshot = _snapshot(draft)
    release = _with_keys(draft.document, draft.folder).spec.release.model_dump(by_alias=True, exclude_none=True)
    envelope = seal_manifest(
        for_rehearsal(draft.document),
        bundle,
        app,
        "nobody",
        "nobody",
        SigningKey.generate(),
        moment_text(datetime.now(UTC)),
        bytes(NONCE_BYTES),
        snapshot.digest if snapshot else None,
    )
    return open_envelope(envelope, "manifest").document, bundle, release


def _read_app(draft: Draft) -> tuple[Bundle, AppInfo]:
    files = read_app_folder(draft.folder / (draft.document.spec.app or ""))
    return pack(files), app_info(files)


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidManifest(f"{source} is not UTF-8 text.", hint="Save it as UTF-8.") from None


def prepare(draft: Draft, home: Home, roll: Roll, *, again: bool = False) -> Prepared:
    """Sends nothing. ``again``: a new job, even if this very one was signed before. Raises InvalidManifest, InvalidIdentity."""
    with draft.placed():
        return _prepare(draft, home, roll, again)


@dataclass(frozen=True, slots=True)
class Packed:
    """A job with the keys and files that it names, before anybody signs it."""

    document: JobDocument
    app: AppInfo
    bundle: Bundle
    snapshot: Snapshot | None


def packed(draft: Draft, roll: Roll) -> Packed:
    """Raises InvalidManifest, InvalidIdentity, NotFound."""
    document = _with_keys(draft.document, draft.folder)
    check_reachable(document.spec.participants, roll)
    bundle, app = _read_app(draft)
    return Packed(document, app, bundle, _snapshot(draft))


def sealed(job: Packed, home: Home, roll: Roll, lead: str, key: SigningKey, created: str, nonce: bytes) -> bytes:
    """The manifest's envelope. Raises InvalidManifest."""
    profile = home.profile("lead")
    return seal_manifest(
        _with_lead(job.document, home, profile.name or profile.id),
        job.bundle,
        job.app,
        roll.federation,
        lead,
        key,
        created,
        nonce,
        job.snapshot.digest if job.snapshot else None,
    )


def _prepare(draft: Draft, home: Home, roll: Roll, again: bool) -> Prepared:
    lead = home.profile("lead")
    job = packed(draft, roll)
    kept = home.jobs_path / f"{_identity(job.document, job.bundle, job.snapshot, roll).hex()}.json"
    signed_before = kept.exists() and not again
    if signed_before:
        envelope = read_file(kept, what="The signed manifest")
    else:
        created, nonce = moment_text(datetime.now(UTC)), secrets.token_bytes(NONCE_BYTES)
        envelope = sealed(job, home, roll, lead.id, home.identity_key(), created, nonce)
    manifest = open_manifest(envelope, roll)
    if not signed_before:
        make_private_folder(home.jobs_path)
        write_file(kept, envelope)
    return Prepared(job.document, job.app, job.bundle, job.snapshot, manifest, signed_before)


def _with_keys(document: JobDocument, folder: Path) -> JobDocument:
    """The recipients' key files replaced by what they hold."""
    named = document.spec.release.recipients
    return document.sealed_for([_with_key(each, folder) for each in named]) if named else document


def _with_key(recipient: Recipient, folder: Path) -> Recipient:
    if recipient.key_file is None:
        return recipient
    path = folder / recipient.key_file
    key = _text(read_file(path, what="The recipient's key"), str(path)).strip()
    if len(key) != 2 * PUBLIC_BYTES or not set(key) <= set("0123456789abcdef"):
        raise InvalidManifest(
            f"{path} does not hold a sealing key.",
            hint="The recipient writes it with concord release key --out FILE.",
            field="spec.release.recipients",
        )
    return Recipient.of(recipient.name, key)


def _with_lead(document: JobDocument, home: Home, name: str) -> JobDocument:
    """A blind job's release is sealed, to its lead at least."""
    if document.spec.coordinator_view != "blind":
        return document
    named, own = document.spec.release.recipients, recipient_key(home.sealing_key(make=True)).hex()
    if own in (each.key for each in named):
        return document
    return document.sealed_for([*named, Recipient.of(name, own)])


def _snapshot(draft: Draft) -> Snapshot | None:
    named = draft.document.spec.model.snapshot_file
    if named is None:
        return None
    path = draft.folder / named
    if not path.is_file():
        raise InvalidManifest(
            f"The snapshot {path} does not exist.",
            hint="It is relative to the job file.",
            field="spec.model.snapshotFile",
        )
    read_arrays(path)
    with path.open("rb") as stream:
        return Snapshot(path, hashlib.file_digest(stream, "sha256").digest())


def _identity(document: JobDocument, bundle: Bundle, snapshot: Snapshot | None, roll: Roll) -> bytes:
    text = document.model_dump_json(by_alias=True)
    parts = (text, bundle.digest, snapshot.digest if snapshot else b"", roll.federation)
    return hashlib.sha256(transcript("concord/prepared-job/v1", *parts)).digest()
