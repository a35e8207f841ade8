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
from federation.manifest.document import JobDocument, Recipient, load_job
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


def read_draft(path: Path) -> Draft:
    """The job at ``path``, "-" for stdin. Raises InvalidManifest, NotFound, InvalidUsage."""
    if str(path) == "-":
        return _draft(_text(sys.stdin.buffer.read(DOCUMENT_LIMIT + 1), "stdin"), "stdin", Path.cwd())
    return _draft(_text(read_file(path, what="The job document"), str(path)), str(path), path.resolve().parent)


def _draft(text: str, name: str, folder: Path) -> Draft:
    return Draft(load_job(text, name), folder, read_yaml(text, name))


def rehearse(draft: Draft) -> tuple[dict[str, Any], Bundle]:
    """The job with all defaults, those of its app too, and what would be sent. Signs and sends nothing that anybody would take.

    Raises InvalidManifest for all that ``prepare`` would, short of the keys and the roll.
    """
    with draft.placed():
        bundle, app = _read_app(draft)
        snapshot = _snapshot(draft)
        recipients = _with_keys(draft.document, draft.folder).spec.release.model_dump(by_alias=True, exclude_none=True)
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
    resolved = {key: value for key, value in open_envelope(envelope, "manifest").document.items() if key in JOB_FIELDS}
    del resolved["spec"]["bundle"]
    resolved["spec"] = {"app": draft.document.spec.app, **resolved["spec"], "release": recipients}
    return resolved, bundle


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


def _prepare(draft: Draft, home: Home, roll: Roll, again: bool) -> Prepared:
    document = draft.document
    lead = home.profile("lead")
    document = _with_keys(document, draft.folder)
    check_reachable(document.spec.participants, roll)
    bundle, app = _read_app(draft)
    snapshot = _snapshot(draft)
    kept = home.jobs_path / f"{_identity(document, bundle, snapshot, roll).hex()}.json"
    signed_before = kept.exists() and not again
    if signed_before:
        envelope = read_file(kept, what="The signed manifest")
    else:
        envelope = seal_manifest(
            _with_lead(document, home, lead.name or lead.id),
            bundle,
            app,
            roll.federation,
            lead.id,
            home.identity_key(),
            moment_text(datetime.now(UTC)),
            secrets.token_bytes(NONCE_BYTES),
            snapshot.digest if snapshot else None,
        )
    manifest = open_manifest(envelope, roll)
    if not signed_before:
        make_private_folder(home.jobs_path)
        write_file(kept, envelope)
    return Prepared(document, app, bundle, snapshot, manifest, signed_before)


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
