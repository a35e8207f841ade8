"""`concord-node try job.yaml`: a job on the lab's own data, with its own policy and sandbox. Nothing is sent, nobody is asked.

The document is signed in memory with a key that is thrown away, in the name of a lead on the roll, so that all that follows is
what a real job meets: the decision, the worker, the difference, the encoding. The contribution is encoded as a cohort of one, and
what would have left is read from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from federation.errors import InvalidManifest, NotFound, PolicyDenied
from federation.identity.consent import Consent
from federation.identity.roll import Roll
from federation.manifest.app_folder import read_app_folder
from federation.manifest.document import JobDocument
from federation.manifest.manifest import Manifest
from federation.privacy.statement import sentence_of
from federation.secagg.encoding import encoding_of, update_size
from federation.secagg.events import Contribute, MaskPlan
from federation.secagg.figures import mean_figures, public_words
from federation.secagg.header import WORD_BYTES, header_words
from federation.weights.layout import Layout
from federation.weights.state import ModelState
from node_agent.catalogue.publication import published
from node_agent.catalogue.versions import sealed_versions
from node_agent.consent.decision import Situation, decide
from node_agent.consent.packs import held_policy
from node_agent.consent.pretended import as_if_submitted, likely_lead, read_job
from node_agent.consent.spending import entries_of
from node_agent.rounds.files import JobFiles
from node_agent.rounds.spec import worker_spec
from node_agent.rounds.training import Trainer
from node_agent.runner.runtime import missing_runtime
from node_agent.runner.sandbox import detect_sandbox
from node_agent.settings import Home, NodeSettings

COHORT: Final = 3
"""the least that any job may run with: the level bound follows from it"""

COUNTS: Final = "a whole number, as counts are: sums over two cohorts would tell this lab's own"
NEARLY: Final = 1e-6
"""how far a figure may be from the whole number that it was, in the header's fixed point"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    consent: Consent
    bytes_up: int
    parameters: int
    saturated: int
    figures: dict[str, float]
    load_seconds: float
    round_seconds: float


def rehearse(home: Home, job: Path, lead: str | None = None, *, say: Say = print) -> Rehearsed:
    """Prints what would happen. Raises InvalidManifest, PolicyDenied with every reason, TaskFailed, Unavailable."""
    settings = home.settings()
    roll = Roll.open(home.read(home.roll, 4 << 20))
    policy = held_policy(home, str(home.policy_file), roll, keep=None)
    document, folder = read_job(job)
    lead = lead or likely_lead(roll, policy.rules.leads)
    files = read_app_folder(folder / (document.spec.app or ""))
    snapshot = _snapshot(document, folder)
    digest = _digest(snapshot) if snapshot is not None else None
    manifest, roll = as_if_submitted(document, files, roll, lead, digest)
    sandbox = detect_sandbox()
    situation = Situation(
        policy=policy,
        roll=roll,
        member=settings.member,
        node=settings.node,
        data_sets=settings.data_sets,
        sandbox=sandbox.kind,
        missing=missing_runtime,
        now=datetime.now().astimezone(),
        version_of=sealed_versions(home).version_of,
        published=lambda: published(home),
        ledger=lambda name: entries_of(home, name),
    )
    consent = decide(manifest, situation)
    say(f"job       {manifest.name}, as if {lead} had submitted it; nothing is sent")
    say(f"decision  {'granted' if consent.granted else 'denied'} by {home.policy_file}")
    for reason in consent.reasons:
        say(f"          {reason}")
    if not consent.granted:
        raise PolicyDenied(
            f"This node would deny {manifest.name}.",
            hint=f"Change {home.policy_file}, the node's data sets, or the job.",
            reasons=consent.reasons,
        )
    say(f"data      {consent.data_set}, counted as {consent.weight} examples (a power of two)")
    say(f"sandbox   {sandbox.kind}{f' ({sandbox.reason})' if sandbox.reason else ''}")
    log = home.root / "rehearsal.log"
    log.unlink(missing_ok=True)
    place = Path(tempfile.mkdtemp(prefix="rehearsal-", dir=home.root))
    try:
        done = asyncio.run(_run(manifest, consent, settings, roll, sandbox.kind, files, snapshot, place, log))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    share = done.saturated / max(1, done.parameters)
    say(f"loaded    in {done.load_seconds:.1f} s: {done.parameters:,} numbers are trained")
    say(f"round     1 evaluated and trained in {done.round_seconds:.1f} s")
    say(f"would go  {done.bytes_up:,} bytes a round, masked ({manifest.terms().ring_bits} bits a number)")
    if share > 0:
        say(f"          {share:.2%} of the numbers are beyond the first scale and would be cut; later rounds adapt it")
    if (privacy := manifest.privacy) is not None:
        say(f"privacy   {sentence_of(privacy)}")
    for line in _figures(manifest, done.figures):
        say(line)
    say(f"task log  {log}")
    say("The job would run here.")
    return done


def is_a_count(value: float) -> bool:
    """Whether it is a whole number, but not one that a mean often is (0, 1)."""
    return abs(value) > 1.5 and abs(value - round(value)) < NEARLY


def _figures(manifest: Manifest, figures: Mapping[str, float]) -> Iterator[str]:
    if (privacy := manifest.privacy) is None:
        yield "figures   these leave as sums over the cohort, never alone:"
        for name, value in sorted(figures.items()):
            yield f"          {name} = {value:.6g}{' WARNING: ' + COUNTS if is_a_count(value) else ''}"
    elif privacy.figures is None:
        yield "figures   none leave: they come from data, and the job gives them no noise"
    else:
        yield f"figures   these leave with noise, each held within {privacy.figures.bound:g}: {', '.join(manifest.figures)}"


def _snapshot(document: JobDocument, folder: Path) -> Path | None:
    model = document.spec.model
    if model.snapshot is not None:
        raise InvalidManifest(
            "The job names its initial model by digest, and this node does not have it.",
            hint="Ask the lead for the file and put it in a copy of the document as spec.model.snapshotFile.",
            field="spec.model.snapshot",
        )
    if model.snapshot_file is None:
        return None
    path = folder / model.snapshot_file
    if not path.is_file():
        raise NotFound(
            f"The snapshot {path} does not exist.", hint="spec.model.snapshotFile is relative to the document."
        )
    return path


def _digest(snapshot: Path) -> bytes:
    with snapshot.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


async def _run(
    manifest: Manifest,
    consent: Consent,
    settings: NodeSettings,
    roll: Roll,
    sandbox: str,
    bundle: dict[str, bytes],
    snapshot: Path | None,
    place: Path,
    log: Path,
) -> Rehearsed:
    files = JobFiles(place)
    files.prepare()
    files.unpack(bundle)
    terms = manifest.terms()
    spec = replace(worker_spec(manifest, consent.data_set, settings, files, roll, sandbox), log=log)
    trainer = Trainer(manifest, terms, files, spec)
    members = max(terms.min_members, COHORT)
    try:
        started = time.monotonic()
        state: ModelState = await trainer.initial(snapshot)
        loaded = time.monotonic()
        plan = MaskPlan(os.urandom(32), (), os.urandom(32))
        task = Contribute(1, 0, plan, consent.weight, consent.weight, members, False)
        await trainer.contribute(task, state)
        ended = time.monotonic()
        with files.update(plan.context).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(-WORD_BYTES * header_words(terms), os.SEEK_END)
            words = stream.read()
    finally:
        await trainer.close()
    encoding = encoding_of(terms, members, consent.weight)
    parameters = Layout.of(state.arrays).size
    if size != update_size(terms, encoding, parameters):
        raise AssertionError("the encoded update has another size than its layout says")
    header = tuple(
        int.from_bytes(words[start : start + WORD_BYTES], "little", signed=True)
        for start in range(0, len(words), WORD_BYTES)
    )
    return Rehearsed(
        consent=consent,
        bytes_up=size,
        parameters=parameters,
        saturated=header[2],
        figures=mean_figures(public_words(header, terms), terms),
        load_seconds=loaded - started,
        round_seconds=ended - loaded,
    )
