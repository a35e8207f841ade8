"""Drives the MemberMachine of one job on this node.

One task takes events in order and performs what the machine returns in the order given: consecutive ``Remember`` are one
transaction and are on disk before anything after them is done. Training, fetching and applying run beside it and come back as
events, so that a vote never waits for a model. Before anything of the job runs, the lab's own consent is looked up on its own
disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from federation.errors import (
    FederationError,
    InvalidManifest,
    OutOfOrder,
    ProtocolViolation,
    TaskFailed,
    Unavailable,
    VerificationFailed,
)
from federation.identity.consent import Consent
from federation.identity.credential import NodeCredential, once_verified, verify_credential
from federation.log_events import Current, about
from federation.manifest.manifest import Manifest
from federation.sealing import release_purpose, wrap
from federation.secagg import events, wire
from federation.secagg.member import Me, MemberMachine
from federation.secagg.messages import (
    Announcement,
    Certificate,
    Close,
    KeyMessage,
    Ready,
    Recover,
    RosterSignature,
    Survivors,
    Upload,
)
from federation.v1 import rounds_pb2
from federation.weights.state import MAX_FILE, ModelState
from node_agent.rounds.disclosure import Disclosure, exact_in
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate
from node_agent.rounds.inbox import Inbox
from node_agent.rounds.lab import Lab
from node_agent.rounds.logged import Logged
from node_agent.rounds.outbox import Outbox
from node_agent.rounds.permit import Permit
from node_agent.rounds.refusals import Refusals, kept_as
from node_agent.rounds.releasing import check_release
from node_agent.rounds.standing import Door
from node_agent.rounds.states import States
from node_agent.rounds.sums import Sums
from node_agent.rounds.training import Trainer
from node_agent.rounds.uploads import Uploads
from node_agent.runner.failure import for_the_lead

log = structlog.get_logger()

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""seconds between attempts to write the journal"""
_NEEDS_CONSENT: Final = (KeyMessage, RosterSignature, Ready, Upload)
"""Said only while the lab's consent stands. What is due for an attempt that was uploaded is said even when its time has passed;
once it is revoked nothing is."""
_ABOUT_AN_ATTEMPT: Final = (Announcement, Survivors, Certificate, Recover, events.Reopen, Close)


class JobDriver:
    def __init__(
        self,
        lab: Lab,
        manifest: Manifest,
        consent: Consent,
        trainer: Trainer,
        files: JobFiles,
        data: Callable[[], tuple[bytes, ...]],
    ) -> None:
        """``data``: reads which versions the data sets are that the job uses here. Raises OSError."""
        self._lab, self.manifest, self._trainer, self._files = lab, manifest, trainer, files
        self._terms = manifest.terms()
        me = Me(lab.credential.member, lab.credential.node, lab.credential.envelope, consent.weight, lab.min_cohort)
        exact = {last: exact_in(manifest, self._terms, self._terms.rounds + last) for last in (False, True)}
        self._rule = Disclosure(lab.figures, manifest.digest, exact, self._terms.rounds)
        self._knowing: asyncio.Task[None] | None = None
        self.machine = MemberMachine(self._terms, me, lab.key.sign, self._credential, cohorts=self._rule)
        self.inbox = Inbox()
        self._tasks: set[asyncio.Task[None]] = set()
        self._contributing: dict[bytes, asyncio.Task[None]] = {}
        self._newest: events.FetchSum | None = None
        self._outbox = Outbox(lab, manifest.digest, lambda: self._permit.stands())
        self._door = Door()
        self._of_before = False
        """whether what is in hand tells of the epoch before"""
        at = Current(lambda: self.machine.position.round)
        self.names = {"job": manifest.digest.hex()[:12], "name": manifest.name, "round": at}
        """as whatever is logged of this job says them"""
        self._log = log.bind(**self.names)
        names = (consent.data_set, *manifest.spec.extra_data_sets)
        self._permit = Permit(lab, manifest, names, data, self._rule, self._outbox.send, self._log)
        self._refusals = Refusals(lab, manifest, self._outbox.send, self._log)
        self._sums = Sums(lab, manifest, files, lambda: self.machine.bench)
        self._states = States(lab.way, files, lambda: self.machine.position, self._log)
        self._uploads = Uploads(lab, manifest.digest, files, self._spawn, self._log)
        self._logged = Logged(lambda document, what: lab.expect(document, what, manifest.digest))
        records = lab.journal.records(manifest.digest)
        if records:
            self.machine.restore(records)

    def start(self) -> None:
        self._lab.gate.listen(self.manifest.digest, self._outbox.go_on)
        self._spawn(self._run())

    async def stop(self) -> None:
        self._lab.gate.leave(self.manifest.digest)
        self._outbox.close()
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._trainer.close()

    @property
    def position(self) -> rounds_pb2.Position:
        place = self.machine.position
        return rounds_pb2.Position(
            job=self.manifest.digest,
            epoch=place.epoch,
            roster_hash=place.roster_hash,
            round=place.round,
            state_digest=place.state_digest,
        )

    def hear(self, proto: Any) -> None:
        """One instruction of the coordinator for this job, as its protobuf message."""
        if isinstance(proto, rounds_pb2.ProvideRelease):
            self._spawn(self._release(proto))
            return
        try:
            event: events.MemberEvent = wire.from_proto(proto)
        except ProtocolViolation as error:
            self._refusals.refuse(error, proto)
            return
        if isinstance(event, Close):
            self._sums.hold(event.sum_blob, proto.inline_sum)
        self.inbox.hear(event, proto)

    async def room(self) -> None:
        """Returns when few enough of the coordinator's messages wait: who reads the stream asks before it reads on."""
        await self.inbox.room()

    # ----------------------------------------------------------------------------------------------------------- inside

    def _credential(self, envelope: bytes) -> NodeCredential:
        """The epoch before may hold a member that was suspended since; the next one may not."""
        if self._of_before:
            return once_verified(envelope, self._lab.roll)
        return verify_credential(envelope, self._lab.roll, datetime.now(UTC))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=about(**self.names))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("driver.failed", error=type(error).__name__, detail=str(error), exc_info=error)

    async def _run(self) -> None:
        await self._permit.read_data()
        if self.machine.position.round:
            with contextlib.suppress(VerificationFailed):  # said where the state is used
                self._know(await asyncio.to_thread(self._states.held))
        while True:
            event, proto = await self.inbox.take()
            if isinstance(event, _ABOUT_AN_ATTEMPT) and self._knowing is not None:
                await asyncio.wait({self._knowing})
            if isinstance(event, Announcement) and (
                put_out := self._door.refuses(event, self.machine.seats, self._lab.roll)
            ):
                self._refusals.refuse(put_out, proto)
                continue
            self._of_before = isinstance(event, events.Lineage)
            try:
                instructions = self.machine.handle(event, time.time())
            except OutOfOrder as error:
                self._log.warning(
                    "member.out-of-order", event=type(event).__name__, detail=error.message, story=error.story
                )
                continue
            self._logged.took(event, instructions)
            await self._perform(instructions, proto)

    def _know(self, state: ModelState) -> None:
        """Has the model's digest made beside the rounds; whatever is said of an attempt waits for it."""

        async def know() -> None:
            self._rule.hold(state.digest(), await asyncio.to_thread(state.weights_digest))

        before = self._knowing
        self._knowing = self._spawn(know()) if before is None or before.done() else self._spawn(_after(before, know()))

    async def _perform(self, instructions: list[events.MemberInstruction], proto: Any) -> None:
        """``proto``: the message that led to them, if one did."""
        pending: dict[str, bytes | None] = {}
        figures: list[events.RememberFigures] = []
        for instruction in instructions:
            if isinstance(instruction, events.Remember):
                pending[instruction.key] = instruction.value
                continue
            if isinstance(instruction, events.RememberFigures):
                figures.append(instruction)
                continue
            if pending or figures:
                await self._remember(pending, figures)
                pending, figures = {}, []
            if isinstance(instruction, events.Refuse):
                self._refusals.refuse(instruction.violation, proto)
            else:
                self._do(instruction)
        if pending or figures:
            await self._remember(pending, figures)

    async def _remember(self, records: dict[str, bytes | None], figures: list[events.RememberFigures]) -> None:
        """Returns when they are on disk, and not before: what follows from them is not said until then."""
        pause = FIRST_PAUSE
        while True:
            try:
                await asyncio.to_thread(self._lab.journal.remember, self.manifest.digest, records, figures)
            except Unavailable as error:
                self._log.error("journal.not-written", detail=error.message, hint=error.hint, again_in=pause)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _do(self, instruction: events.MemberInstruction) -> None:
        match instruction:
            case events.Send(message=message) if isinstance(message, _NEEDS_CONSENT) and not self._permit.stands():
                self._log.info("consent.left-unsaid", message=type(message).__name__)
            case events.Send(message=Upload() as upload):
                self._spawn(self._send_upload(upload))
            case events.Send():
                self._outbox.send(wire.to_proto(instruction.message))
            case events.ComputeInitialState():
                self._spawn(self._initial())
            case events.FetchState():
                self._spawn(self._fetch_state(instruction))
            case events.PutState():
                self._spawn(self._provide(instruction.epoch, instruction.state_digest, instruction.key))
            case events.Contribute():
                self._contributing[instruction.plan.context] = self._spawn(self._contribute(instruction))
            case events.FetchSum():
                self._newest = instruction
                self._spawn(self._apply(instruction))
            case events.StopContributing():
                if (task := self._contributing.pop(instruction.context, None)) is not None:
                    if not task.done():
                        self._log.warning(
                            "task.too-late", detail="the round went on without this node; its task was ended"
                        )
                    task.cancel()
                self._uploads.erase(instruction.context)
            case events.Forgone():
                if self._terms.privacy is not None:
                    self._spawn(self._permit.forgo(instruction.context))
            case events.RoundSettled():
                for context in list(self._contributing):
                    if self._contributing[context].done():
                        del self._contributing[context]
                        self._uploads.erase(context)
                self._lab.gate.settled(self.manifest.digest)
            case _:
                raise OutOfOrder(f"The driver does not know {type(instruction).__name__}.")

    @property
    def contributing(self) -> bool:
        """Whether it takes part in a round that has not ended."""
        return bool(self._contributing)

    # ------------------------------------------------------------------------------------------------------ beside it

    async def _initial(self) -> None:
        snapshot = None
        try:
            self._permit.check()
            if self.manifest.snapshot is not None:
                snapshot = self._files.root / "snapshot.safetensors"
                await self._lab.way.get_blob(self.manifest.snapshot, snapshot, MAX_FILE)
            state = await self._trainer.initial(snapshot)
        except FederationError as error:
            self._failed(error, 1, "initial-model")
            return
        self._states.hold(state)
        digest = await asyncio.to_thread(state.digest)
        self._know(state)
        self.inbox.own(events.StateReady(1, digest))

    async def _contribute(self, task: events.Contribute) -> None:
        context, root = task.plan.context, b""
        try:
            consent = self._permit.check()
            state = self._states.held()
            await self._permit.check_data(consent)
            await self._permit.affords(task)
            self._outbox.send(rounds_pb2.Progress(round=task.round, activity="training"))
            root = await self._trainer.contribute(task, state, lambda update: self._begin(task, update))
        except FederationError as error:
            self.inbox.own(events.ContributionFailed(context))
            self._failed(error, task.round, "train")
            return
        finally:
            if not root:
                self._uploads.leave(context)
        self._lab.count("contributions")
        self.inbox.own(events.Encoded(context, root))

    def _failed(self, error: FederationError, round_number: int, phase: str) -> None:
        """The lead learns the class, file and line of a task's exception, never its message; the lab's log has all.

        Where there was no exception, such as for NaN or a worker that died, it learns the agent's own sentence. In a job with
        privacy it learns of neither: the task's code chooses them by what it saw, without noise. What is wrong with the job
        itself it learns there, too.
        """
        self._log.error(
            "task.failed", round=round_number, detail=error.message, hint=error.hint, log=str(self._files.task_log)
        )
        self._lab.count("task_failures")
        failure = rounds_pb2.TaskFailure(round=round_number, exception=error.code, phase=phase)
        by_task = isinstance(error, TaskFailed | Unavailable)
        if by_task and self.manifest.privacy is not None:
            self._outbox.send(failure)
            return
        if isinstance(error, TaskFailed):
            failure.phase = error.phase or phase
        if self.manifest.spec.error_detail == "location" and (by_task or isinstance(error, InvalidManifest)):
            failure.exception = self._lab.discreet(for_the_lead(error))[:300]
            if isinstance(error, TaskFailed):
                failure.exception = error.exception or failure.exception
                failure.file, failure.line = error.file, error.line
        self._outbox.send(failure)

    async def _begin(self, task: events.Contribute, update: GrowingUpdate) -> None:
        await self._permit.charge(task, update.size)
        self._uploads.begin(task.plan.context, update)

    async def _send_upload(self, upload: Upload) -> None:
        proto = await self._uploads.deliver(upload)
        if proto is not None and self._permit.stands():
            self._outbox.send(proto)

    async def _fetch_state(self, wanted: events.FetchState) -> None:
        try:
            state = await self._states.fetch(wanted)
        except VerificationFailed:
            self._outbox.send(rounds_pb2.StateRefused(state_digest=wanted.state_digest, blob=wanted.state_blob))
            return
        if state is not None:
            self._know(state)
            self.inbox.own(events.StateReady(wanted.round, wanted.state_digest))

    async def _apply(self, fetch: events.FetchSum) -> None:
        close = fetch.close
        said: events.SumApplied | events.SumRefused
        stepped: ModelState | None = None
        try:
            async with self._states.coming:
                state = self._states.held()
                stepped, figures = await self._sums.applied(fetch, state)
        except ProtocolViolation as error:
            kept = self._refusals.keep(error, self._sums.as_told(close))
            self._log.warning(
                "sum.refused",
                round=close.round,
                check=error.check,
                detail=error.message,
                hint=error.hint or error.remedy,
                **kept_as(kept),
            )
            said = events.SumRefused(close.context, error.message)
        except FederationError as error:
            self._log.error("sum.not-applied", round=close.round, detail=error.message, hint=error.hint or error.remedy)
            said = events.SumRefused(close.context, error.message, ours=True)
        else:
            said = events.SumApplied(close.context, stepped.digest(), figures)
        if fetch is not self._newest:
            return  # another sum for this attempt was told meanwhile: the machine waits for what comes of that one
        if stepped is not None:
            self._lab.count("rounds")
            self._states.hold(stepped)
            self._know(stepped)
        self.inbox.own(said)

    async def _provide(self, epoch: int, digest: bytes, key: bytes) -> None:
        """``key``: seals it for the other members alone."""
        blob = await self._states.put(digest, key)
        if blob:
            self._outbox.send(rounds_pb2.StateStored(epoch=epoch, state_digest=digest, blob=blob))

    async def _release(self, proto: rounds_pb2.ProvideRelease) -> None:
        """The final state, for those whom the manifest names, if it may be released; in clear where the coordinator may see it."""
        digest, recipients = proto.state_digest, self.manifest.recipients
        try:
            check_release(self.manifest, self.machine, proto, self._lab.roll)
        except FederationError as error:
            self._log.warning("release.refused", detail=error.message, hint=error.hint or error.remedy)
            self._outbox.send(rounds_pb2.Refusal(code=error.code, text=error.message))
            return
        self._logged.final(tuple(wire.from_proto(receipt) for receipt in proto.receipts))
        if not recipients:
            await self._provide(self.machine.position.epoch, digest, b"")
            return
        key = self.machine.release_key(digest)
        if not key:
            return
        blob = await self._states.put(digest, key)
        if blob:
            wrapped = wrap(key, recipients, release_purpose(self.manifest.digest, digest))
            self._outbox.send(wire.to_proto(self.machine.sealing(digest, blob, wrapped)))


async def _after(before: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
    await before
    await work
