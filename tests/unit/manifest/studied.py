"""A study and its runs as a lead signs them, for tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.manifest.manifest import Manifest, open_manifest, seal_manifest
from federation.manifest.study import Study, load_study, open_study, seal_study
from tests.unit.identity.parties import APP, NONCE, Parties, prepared, submitted

SPEC: dict[str, Any] = {
    "app": "./tiny",
    "dataSet": "digits",
    "coordinatorView": "sum",
    "rounds": 3,
    "runConfig": {"kind": "wide", "deep": False},
}
VARY: dict[str, Any] = {
    "rate": {"least": 0.25, "most": 4},
    "size": {"values": [10, 20]},
    "kind": {"values": ["wide", "narrow"]},
}
"""rate and size are of the app's own config"""
BOUNDS: dict[str, Any] = {"vary": VARY, "runs": 3, "rounds": 12, "bytes": "1Mi"}


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def sealed_study(
    parties: Parties,
    *,
    spec: dict[str, Any] | None = None,
    key: SigningKey | None = None,
    created: datetime | None = None,
    name: str = "search",
    **bounds: Any,
) -> bytes:
    """The envelope; ``bounds`` over ``BOUNDS``, ``spec`` over ``SPEC``."""
    job = {**SPEC, **(spec or {})}
    created = created or now()
    body = {**BOUNDS, "expires": moment_text(created + timedelta(days=30)), **bounds}
    text = {"apiVersion": "concord/v1", "kind": "Study", "metadata": {"name": name}, "spec": {"job": job, **body}}
    document = load_study(json.dumps(text), "study.yaml")
    one = run_of(parties, None, spec=spec, created=created)
    return seal_study(document, one.document, key or parties.lead_key)


def study_of(parties: Parties, **changes: Any) -> Study:
    return open_study(sealed_study(parties, **changes), parties.roll)


def run_of(
    parties: Parties,
    study: Study | None,
    *,
    name: str = "run",
    spec: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    files: dict[str, bytes] | None = None,
    nonce: bytes = NONCE,
    created: datetime | None = None,
    **settings: Any,
) -> Manifest:
    """``settings``: over the study's runConfig; ``spec``: over its job."""
    job = {**SPEC, **(spec or {})}
    job["runConfig"] = {**SPEC["runConfig"], **(spec or {}).get("runConfig", {}), **settings}
    words = {"name": name, **({"study": study.digest.hex()} if study is not None else {}), **(metadata or {})}
    text = {"apiVersion": "concord/v1", "kind": "TrainingJob", "metadata": words, "spec": job}
    bundle, app = prepared(files or APP)
    envelope = seal_manifest(
        submitted(json.dumps(text)), bundle, app, parties.roll.federation, "lead", parties.lead_key,
        moment_text(created or now()), nonce,
    )  # fmt: skip
    return open_manifest(envelope, parties.roll)
