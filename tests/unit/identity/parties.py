"""A founded federation in memory, for tests of documents: officers, leads, nodes, the roll, and a job that a lead signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from federation.identity.credential import NodeCredential, node_request, sign_credential, verify_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead, RollMember, draft_roll
from federation.manifest.bundle import AppInfo, Bundle, app_info, pack
from federation.manifest.document import JobDocument, Recipient, load_job
from federation.manifest.manifest import Manifest, open_manifest, seal_manifest
from federation.sealing import recipient_key

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
CREATED = "2026-01-31T12:00:00Z"
NONCE = bytes(range(16))
SEALING_KEY = bytes(range(96))
"""private; of the lead"""
COUNTRIES = {"ch": "CH", "fr": "FR", "ke": "KE", "no": "NO", "us": "US"}
APP = {
    "pyproject.toml": b"""
[project]
name = "tiny"
dependencies = ["flwr>=1.41", "numpy>=2.0"]
[tool.flwr.app.components]
clientapp = "tiny.client_app:app"
serverapp = "tiny.server_app:app"
[tool.flwr.app.config]
rate = 1.0
size = 10
[tool.concord]
initial-model = "tiny.task:initial_arrays"
""",
    "tiny/__init__.py": b"",
    "tiny/client_app.py": b"app = None\n",
}
JOB = """apiVersion: concord/v1
kind: TrainingJob
metadata: {name: tiny}
spec:
  app: ./tiny
  dataSet: digits
"""


@dataclass(frozen=True)
class Parties:
    officers: Mapping[str, SigningKey]
    lead_key: SigningKey
    roll: Roll

    def credential(self, member: str, key: SigningKey) -> NodeCredential:
        request = node_request(self.roll.federation, member, f"{member}-1", key)
        envelope = sign_credential(
            request, self.roll.federation, self.officers[member], member, NOW, NOW + timedelta(days=365)
        )
        return verify_credential(envelope, self.roll, NOW)

    def submit(self, text: str = JOB, files: Mapping[str, bytes] = APP) -> bytes:
        """The envelope that `concord apply` would send."""
        bundle, app = prepared(files)
        return seal_manifest(submitted(text), bundle, app, self.roll.federation, "lead", self.lead_key, CREATED, NONCE)

    def job(self, text: str = JOB, files: Mapping[str, bytes] = APP) -> Manifest:
        return open_manifest(self.submit(text, files), self.roll)


def submitted(text: str) -> JobDocument:
    """The job as `concord apply` signs it: the release of a blind one is sealed for its lead."""
    document = load_job(text, "job.yaml")
    if document.spec.coordinator_view != "blind" or document.spec.release.recipients:
        return document
    return document.sealed_for([Recipient.of("A lead", recipient_key(SEALING_KEY).hex())])


def prepared(files: Mapping[str, bytes] = APP) -> tuple[Bundle, AppInfo]:
    return pack(files), app_info(files)


def roll_document(officers: Mapping[str, SigningKey], lead: SigningKey) -> dict[str, object]:
    members = [RollMember(id, f"Laboratory {id}", COUNTRIES[id], key.public) for id, key in officers.items()]
    return draft_roll("health", 1, members, [RollLead("lead", min(officers), "A lead", lead.public)])


def found(*members: str) -> Parties:
    officers = {id: SigningKey.generate() for id in members or tuple(COUNTRIES)}
    lead = SigningKey.generate()
    envelope = seal(roll_document(officers, lead), "roll", tuple(officers.values()))
    return Parties(officers, lead, Roll.open(envelope))
