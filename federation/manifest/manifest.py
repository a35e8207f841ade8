"""The signed manifest: a resolved job document with its bundle, lead and federation, as canonical bytes. Its digest is the job.

Everything that matters for security at run time is in here; a node or coordinator reads it from the signed bytes alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from federation.errors import InvalidIdentity, InvalidManifest
from federation.identity.envelope import Opened, canonical, open_envelope, seal
from federation.identity.fields import hexadecimal, moment
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label
from federation.identity.roll import Roll, RollLead
from federation.manifest.bundle import AppInfo, Bundle
from federation.manifest.document import BundleReference, JobDocument, Recipient, Spec, floats_of, validate
from federation.manifest.privacy import check_settled, privacy_of, settled
from federation.manifest.schema import bytes_of
from federation.manifest.strategy import StrategySpec
from federation.manifest.yaml_source import Source
from federation.privacy.terms import Privacy
from federation.sealing import PRIVATE_BYTES, is_recipient_key, recipient_key
from federation.secagg.events import Windows
from federation.secagg.parameters import Terms

MAX_ENVELOPE = 2 << 20
OWN_FIELDS = frozenset({"federation", "lead", "created", "nonce"})
WEIGHTING_EQUAL = "equal"
NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Manifest:
    envelope: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    digest: bytes
    """SHA-256 of the payload, 32 bytes: the job's identity"""
    document: Mapping[str, Any] = field(repr=False)
    job: JobDocument = field(repr=False)
    federation: str
    lead: RollLead
    created: str

    @property
    def name(self) -> str:
        return self.job.metadata.name

    @property
    def spec(self) -> Spec:
        return self.job.spec

    @property
    def strategy(self) -> StrategySpec:
        return self.spec.strategy_spec

    @property
    def run_config(self) -> dict[str, str | int | float | bool]:
        """What the app sees as run_config: its own config, the job's over it, and local-steps."""
        return self.spec.settings

    @property
    def data_set(self) -> str:
        """The data set's name; empty when the job names tags only."""
        return self.spec.data_set.name or ""

    @property
    def bundle_digest(self) -> bytes:
        return bytes.fromhex(self._bundle.digest)

    @property
    def bundle_size(self) -> int:
        return self._bundle.size

    @property
    def client_app(self) -> str:
        return self._bundle.client_app

    @property
    def factory(self) -> str | None:
        return self.spec.model.factory

    @property
    def seed(self) -> int:
        if self.spec.model.seed is None:  # open_manifest refuses such a document
            raise InvalidManifest("The manifest does not name the seed of its first model.", field="spec.model.seed")
        return self.spec.model.seed

    @property
    def snapshot(self) -> bytes | None:
        """Digest of the snapshot to start from, if the job names one."""
        named = self.spec.model.snapshot
        return bytes.fromhex(named.removeprefix("sha256:")) if named else None

    @property
    def memory_bytes(self) -> int:
        return bytes_of(self.spec.resources.memory)

    @property
    def gpu_memory_bytes(self) -> int:
        return bytes_of(self.spec.resources.gpu_memory)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that may leave as sums: "train/<name>" and "evaluate/<name>", sorted."""
        if self.spec.privacy is not None and self.spec.privacy.figures is None:
            return ()
        metrics = self.spec.metrics
        evaluate = metrics.evaluate if self.spec.evaluate else []
        return tuple(sorted({f"train/{name}" for name in metrics.train} | {f"evaluate/{name}" for name in evaluate}))

    @property
    def exact_figures(self) -> tuple[str, ...]:
        """Those that leave as exact sums, without noise: each member must have declared them public."""
        return self.figures if self.spec.privacy is None else ()

    @property
    def exact_update(self) -> bool:
        """Whether members' updates leave without noise that hides a member: the task's own hides records alone."""
        return self.privacy is None or not self.privacy.distributed

    def terms(self) -> Terms:
        ring = self.spec.secure_aggregation
        return Terms(
            job=self.digest,
            federation=self.federation,
            rounds=self.spec.rounds,
            final_evaluation=self.spec.final_evaluation
            and self.spec.evaluate
            and (self.spec.privacy is None or bool(self.figures)),
            ring_bits=ring.ring_bits,
            clip_norm=ring.clip_norm,
            weight_cap=ring.weight_cap,
            initial_scale_exponent=ring.scale_exponent,
            min_scale_exponent=ring.min_scale_exponent,
            max_scale_exponent=ring.max_scale_exponent,
            metrics=self.figures,
            min_members=self.spec.participants.min_members,
            min_jurisdictions=self.spec.participants.min_jurisdictions,
            chunk_parameters=ring.chunk_parameters,
            blind=self.spec.coordinator_view == "blind",
            cipher=ring.cipher,
            privacy=self.privacy,
            kind=self.job.kind,
        )

    @property
    def privacy(self) -> Privacy | None:
        return privacy_of(self.spec)

    def windows(self) -> Windows:
        limits = self.spec.deadlines
        return Windows(
            formation=limits.formation_seconds,
            formation_attempts=limits.formation_attempts,
            ready=limits.ready_seconds,
            reconnect=limits.reconnect_seconds,
            round=limits.round_seconds,
            phase=limits.phase_seconds,
            attempts=limits.attempts,
        )

    @property
    def recipients(self) -> tuple[bytes, ...]:
        """The keys for which the release is sealed; none where the coordinator may see it."""
        if self.spec.coordinator_view != "blind":
            return ()
        return tuple(bytes.fromhex(each.key or "") for each in self.spec.release.recipients)

    @property
    def _bundle(self) -> BundleReference:
        if self.spec.bundle is None:  # open_manifest refuses such a document
            raise InvalidManifest("The manifest does not name a packed bundle.", field="spec.bundle")
        return self.spec.bundle


def seal_manifest(
    document: JobDocument,
    bundle: Bundle,
    app: AppInfo,
    federation: str,
    lead_id: str,
    lead_key: SigningKey,
    created: str,
    nonce: bytes,
    snapshot: bytes | None = None,
) -> bytes:
    """The manifest's envelope, signed by the lead. ``created``: RFC 3339. ``snapshot``: digest of the uploaded snapshot file.

    Raises InvalidManifest when the job names no first model, or would not read back as it was written.
    """
    document = settled(document)
    resolved = document.resolved()
    spec = resolved["spec"]
    spec.pop("app", None)
    spec["bundle"] = {
        "digest": bundle.digest.hex(),
        "size": bundle.size,
        "files": [list(item) for item in bundle.files],
        "clientApp": app.client_app,
    }
    settings: dict[str, Any] = {**app.config, **document.spec.run_config}
    if document.spec.local_steps is not None:
        settings["local-steps"] = document.spec.local_steps
    spec["runConfig"] = settings
    spec["runConfigFloats"] = floats_of(settings)
    spec["messageConfigFloats"] = floats_of(document.spec.message_config)
    _fill_model(spec["model"], app, snapshot, nonce)
    if not document.spec.runtime.packages:
        spec["runtime"]["packages"] = packages_of(app.dependencies)
    resolved |= {"federation": federation, "lead": lead_id, "created": created, "nonce": nonce.hex()}
    try:
        envelope = seal(resolved, "manifest", (lead_key,))
        read_opened(open_envelope(envelope, "manifest", MAX_ENVELOPE))
    except InvalidIdentity as error:
        raise InvalidManifest(
            f"The job cannot be signed: {error.message}",
            hint="Write very large numbers as text, and keep the document small.",
        ) from error
    return envelope


def open_manifest(envelope: bytes, roll: Roll) -> Manifest:
    """Reads a manifest from its signed bytes: signature of a lead on ``roll``, federation, schema, and completeness.

    A key that the lead had on an earlier roll is good here: a job outlives it. Whether the lead may submit the job now is
    ``check_may_submit``'s question.

    Complete: nothing is left to a default, lest two versions of Concord read one signed job in two ways.
    Raises InvalidIdentity for a stranger's, missing or bad signature, InvalidManifest for anything in the document.
    """
    opened = open_envelope(envelope, "manifest", MAX_ENVELOPE)
    job = read_opened(opened)
    document = opened.document
    lead = roll.lead(document["lead"])
    held = [each.key for version in (roll, *roll.past) for each in version.leads if each.id == lead.id]
    if len(opened.signers) != 1 or opened.signers[0] not in held:
        raise InvalidIdentity(
            f"The manifest is not signed by the lead {lead.id} on the membership roll.",
            hint="Submit the job as that lead; a lead is added by a new roll that all members sign.",
        )
    if document["federation"] != roll.federation:
        raise InvalidManifest("The manifest is for another federation.", field="federation")
    return Manifest(envelope, opened.payload, opened.digest, document, job, roll.federation, lead, document["created"])


def check_may_submit(manifest: Manifest, roll: Roll) -> None:
    """Raises InvalidIdentity when its lead, or the lead's member, is suspended, or the job was signed with a key of before."""
    lead = roll.require_lead(manifest.lead.id)
    if open_envelope(manifest.envelope, "manifest", MAX_ENVELOPE).signers != (lead.key,):
        raise InvalidIdentity(
            f"The manifest is signed with a key that the lead {lead.id} has no more.",
            hint="Submit the job anew, from the home with the key that is on the roll.",
        )


def read_opened(opened: Opened) -> JobDocument:
    """The document, checked as far as it can be without a roll."""
    document = opened.document
    own = {name: document.get(name) for name in OWN_FIELDS}
    job = validate(Source("manifest", {key: value for key, value in document.items() if key not in own}, {}))
    if job.spec.bundle is None or job.spec.app is not None or job.spec.model.snapshot_file is not None:
        raise InvalidManifest(
            "The manifest does not name a packed bundle.", hint="Submit it with concord apply.", field="spec.bundle"
        )
    for each in job.spec.release.recipients:
        if each.key_file is not None or not is_recipient_key(bytes.fromhex(each.key or "")):
            raise InvalidManifest(
                f"The key of the release's recipient {each.name} is not a sealing key.",
                hint="Submit it with concord apply; concord release key writes a recipient's key.",
                field="spec.release.recipients",
            )
    check_settled(job.spec)
    if job.spec.coordinator_view == "blind" and not job.spec.release.recipients:
        raise InvalidManifest(
            "A blind job names nobody who can open its release.",
            hint="Submit it with concord apply, which adds the lead.",
            field="spec.release.recipients",
        )
    if job.spec.model.factory is None and job.spec.model.snapshot is None:
        raise InvalidManifest("The manifest names no first model.", field="spec.model")
    if job.spec.model.seed is None:
        raise InvalidManifest("The manifest does not name the seed of its first model.", field="spec.model.seed")
    try:
        checked_label(own["federation"], "federation")
        checked_label(own["lead"], "lead")
        moment(own["created"], "created")
        hexadecimal(own["nonce"], "nonce", NONCE_BYTES)
    except InvalidIdentity as error:
        raise InvalidManifest(error.message, hint="Submit it with concord apply.") from error
    if canonical({**job.resolved(), **own}) != opened.payload:
        raise InvalidManifest(
            "The manifest leaves fields to their defaults.", hint="Submit it with concord apply, which fills them in."
        )
    return job


def for_rehearsal(document: JobDocument) -> JobDocument:
    """The job without the recipients of its release: a key that nobody has stands in where there must be one."""
    if document.spec.coordinator_view != "blind":
        return document
    return document.sealed_for([Recipient.of("nobody", recipient_key(os.urandom(PRIVATE_BYTES)).hex())])


def examples_bucket(count: int, weighting: str, cap: int) -> int:
    """The public weight of a member: the nearest power of two at or below its example count, at most ``cap``; 1 for equal.

    Raises InvalidManifest when a member without examples would take part with a weight.
    """
    if weighting == WEIGHTING_EQUAL:
        return 1
    if count < 1:
        raise InvalidManifest(
            "The data set declares no examples.", hint="Declare them: concord-node data add NAME --examples N."
        )
    return 1 << (min(count, cap).bit_length() - 1)


def packages_of(dependencies: tuple[str, ...]) -> dict[str, str]:
    """{name: version range} of an app's dependencies; Flower itself is left to the node. Raises InvalidManifest."""
    packages: dict[str, str] = {}
    for line in dependencies:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise InvalidManifest(
                f"The app's dependency {line[:80]!r} cannot be read.", field="spec.runtime.packages"
            ) from error
        if requirement.marker is None or requirement.marker.evaluate():
            packages[canonicalize_name(requirement.name)] = str(requirement.specifier)
    packages.pop("flwr", None)
    return packages


def _fill_model(model: dict[str, Any], app: AppInfo, snapshot: bytes | None, nonce: bytes) -> None:
    model.setdefault("seed", int.from_bytes(hashlib.sha256(b"concord/manifest/seed" + nonce).digest()[:4]))
    if model.pop("snapshotFile", None) and snapshot is None:
        raise InvalidManifest("The snapshot file was not uploaded.", field="spec.model.snapshotFile")
    if snapshot is not None:
        model["snapshot"] = f"sha256:{snapshot.hex()}"
    if "snapshot" in model:
        model.pop("factory", None)
    elif "factory" not in model:
        if app.initial_model is None:
            raise InvalidManifest(
                "spec.model: the job names no first model, and the app suggests none.",
                hint='Add model: {factory: "package.task:Net"}, or [tool.concord] initial-model to the app\'s pyproject.toml.',
                field="spec.model",
            )
        model["factory"] = app.initial_model
