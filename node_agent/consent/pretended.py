"""A job document as if a lead had submitted it, for whoever asks beforehand: signed in memory by a key that is thrown away."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from federation.errors import InvalidManifest, NotFound
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.manifest.bundle import app_info, pack
from federation.manifest.document import JobDocument, load_job
from federation.manifest.manifest import Manifest, for_rehearsal, open_manifest, seal_manifest

DOCUMENT_LIMIT: Final = 1 << 20
NO_APP: Final = {
    "pyproject.toml": b'[tool.flwr.app.components]\nclientapp = "app:app"\n[tool.concord]\ninitial-model = "app:model"\n'
}
"""stands for the code where it is not at hand"""


def read_job(job: Path) -> tuple[JobDocument, Path]:
    """The document, and the folder that its paths are relative to. Raises NotFound, or InvalidManifest with line and field."""
    try:
        with job.open("rb") as stream:
            data = stream.read(DOCUMENT_LIMIT + 1)
    except OSError as error:
        raise NotFound(f"{job} cannot be read: {error.strerror}.", hint="Name a job document (YAML).") from None
    if len(data) > DOCUMENT_LIMIT:
        raise InvalidManifest(f"{job} is larger than {DOCUMENT_LIMIT >> 20} MiB.", hint="Name a job document (YAML).")
    try:
        return load_job(data.decode(), str(job)), job.resolve().parent
    except UnicodeDecodeError:
        raise InvalidManifest(f"{job} is not UTF-8 text.", hint="Save it as UTF-8.") from None


def as_if_submitted(
    document: JobDocument, files: Mapping[str, bytes], roll: Roll, lead: str, snapshot: bytes | None = None
) -> tuple[Manifest, Roll]:
    """The manifest, and the roll as it would have to be for the key that signed it. Neither is for anybody else.

    ``snapshot``: digest of the snapshot file, where the job names one. Raises NotFound when no such lead is on the roll.
    """
    key = SigningKey.generate()
    if lead not in {item.id for item in roll.leads}:
        known = ", ".join(item.id for item in roll.leads)
        raise NotFound(f"No lead {lead} is on the roll.", hint=f"The roll has: {known}.")
    roll = replace(roll, leads=tuple(replace(item, key=key.public) if item.id == lead else item for item in roll.leads))
    now = moment_text(datetime.now(UTC))
    bundle, app = pack(files), app_info(files)
    envelope = seal_manifest(
        for_rehearsal(document), bundle, app, roll.federation, lead, key, now, secrets.token_bytes(16), snapshot
    )
    return open_manifest(envelope, roll), roll


def likely_lead(roll: Roll, allowed: list[str] | None) -> str:
    """The first on the roll whom the policy allows; else the first."""
    return next((item.id for item in roll.leads if item.id in (allowed or ())), roll.leads[0].id)
