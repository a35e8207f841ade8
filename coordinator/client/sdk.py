"""The SDK, with the nouns of the command line.

    with Federation.connect() as federation:
        submission = federation.submit("job.yaml")
        for job in federation.watch(submission.name):
            print(job.state, job.rounds_closed)
        federation.fetch_release(submission.name, "release")

Every unary call has a deadline. A stream is opened anew when it breaks or grows old, and goes on where it was; a transfer
continues where it stopped. Each failure is a FederationError; only Unavailable is worth trying again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from coordinator.client import markup
from coordinator.client.channel import UNARY_SECONDS, Endpoint, error_of, open_channel, spoken_errors
from coordinator.client.enrolment import renewed
from coordinator.client.home import Home
from coordinator.client.said import note
from coordinator.client.transfer import Progress, Transfer
from coordinator.client.views import FederationState, Job, Jobs, LogLine, job_of, line_of, node_of
from federation.errors import FederationError, InvalidIdentity, InvalidUsage, NotFound, Unavailable
from federation.identity.roll import Roll
from federation.identity.withdrawal import seal_withdrawal
from federation.v1 import blobs_pb2_grpc, catalogue_pb2_grpc, jobs_pb2, jobs_pb2_grpc

if TYPE_CHECKING:
    from coordinator.client.data_sets import PublishedDataSet
    from coordinator.client.studies import StudyState
    from coordinator.client.submission import Draft, Packed, Prepared
    from federation.releases.verify import Report

# What signs jobs and what verifies releases is loaded when it is used: reading a list should not wait for either.

STREAM_SECONDS: Final = 60.0
"""A stream is opened anew after this long, so that a silent network is noticed."""
PATIENCE_SECONDS: Final = 300.0
"""How long a watch outlives a coordinator that does not answer."""
PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 5.0
"""Between two attempts, doubling from the first to the second."""


def _silent(_done: int, _size: int) -> None:
    return


def _patient(_failure: FederationError) -> None:
    return


def _roll_or_none(envelope: bytes) -> Roll | None:
    """What an operator, who trusts no roll of an own, is told: only to read what nodes sign by it."""
    try:
        return Roll.open(envelope)
    except InvalidIdentity:
        return None


@dataclass(frozen=True, slots=True)
class Submission:
    name: str
    digest: bytes
    created: bool
    """False: this very job was there already"""

    def _repr_html_(self) -> str:
        word = "created" if self.created else "unchanged"
        return markup.fields({"job": self.name, "digest": self.digest.hex(), "": word}, "Submission")


class Federation:
    """A session with a coordinator, over mutual TLS with the certificate that ``concord login`` left in the home."""

    def __init__(self, home: Home, endpoint: Endpoint, *, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.endpoint = endpoint
        self.channel, self.route = open_channel(endpoint, os.environ if environment is None else environment)
        self._jobs = jobs_pb2_grpc.JobsStub(self.channel)
        self._catalogues = catalogue_pb2_grpc.CataloguesStub(self.channel)
        self._blobs = Transfer(blobs_pb2_grpc.BlobsStub(self.channel), self.route)

    @classmethod
    def connect(cls, home: Path | str | None = None, *, environment: Mapping[str, str] | None = None) -> Federation:
        """Raises NotFound before ``concord login``. Renews the transport certificate in its last third of life."""
        chosen = Home.at(home or os.environ.get("CONCORD_HOME"))
        endpoint = renewed(
            chosen, chosen.endpoint(), datetime.now(UTC), os.environ if environment is None else environment
        )
        return cls(chosen, endpoint, environment=environment)

    # ------------------------------------------------------------------------------------------------------- reading

    def describe(self) -> FederationState:
        """The federation as the coordinator sees it: its roll and the nodes. Takes a newer roll, where the home has one.

        Raises InvalidUsage when the coordinator shows an older or other roll than the one that the home trusts.
        """
        view = self._call(self._jobs.DescribeFederation, jobs_pb2.DescribeFederationRequest())
        roll = self.home.trust_roll(view.roll) if self.home.roll() is not None else _roll_or_none(view.roll)
        return FederationState(view.federation, view.roll, tuple(node_of(node, roll) for node in view.nodes))

    def newest_roll(self) -> Roll:
        """The members' roll as the coordinator has it now, which the home trusts from now on. Raises as ``describe`` does."""
        self.describe()
        return self.home.required_roll()

    def jobs(self) -> Jobs:
        reply = self._call(self._jobs.List, jobs_pb2.ListJobsRequest())
        return Jobs(job_of(view) for view in reply.jobs)

    def data_sets(self) -> tuple[list[PublishedDataSet], list[str]]:
        """What laboratories publish of their data, checked against this home's roll; and what does not check, in sentences."""
        from coordinator.client.data_sets import fetch, now

        return fetch(lambda page: self._call(self._catalogues.List, page), self.home.required_roll(), now())

    def job(self, name: str) -> Job:
        """By name, digest in hex, or a unique prefix of the digest. Raises NotFound."""
        return job_of(self._call(self._jobs.Get, jobs_pb2.JobQuery(job=name)))

    def watch(
        self, name: str, *, patience: float = PATIENCE_SECONDS, away: Callable[[FederationError], None] = _patient
    ) -> Iterator[Job]:
        """The job now and after each change, until it has ended. Survives a coordinator that is started again.

        ``away`` is called once each time that the coordinator stops answering. Raises Unavailable when it was never reached, or
        stays away longer than ``patience`` seconds.
        """
        last: bytes | None = None
        query = jobs_pb2.JobQuery(job=name)
        for view in self._followed(lambda: self._jobs.Watch(query, timeout=STREAM_SECONDS), patience, away):
            seen = view.SerializeToString(deterministic=True)
            if seen != last:
                last = seen
                job = job_of(view)
                yield job
                if job.ended:
                    return
                # The digest is exact, should another job take the same name meanwhile.
                query.job = job.digest.hex()

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        patience: float = PATIENCE_SECONDS,
        away: Callable[[FederationError], None] = _patient,
    ) -> Iterator[LogLine]:
        """The story of a job; with ``follow`` until the job has ended."""
        request = jobs_pb2.LogsRequest(job=self.job(name).digest.hex() if follow else name, follow=follow)
        if not follow:
            with spoken_errors(self.route):
                for line in self._jobs.Logs(request, timeout=STREAM_SECONDS):
                    yield line_of(line)
            return
        seen: set[tuple[str, str, str]] = set()
        for line in self._followed(lambda: self._jobs.Logs(request, timeout=STREAM_SECONDS), patience, away, ends=True):
            known = (line.time, line.member, line.text)
            if known not in seen:
                seen.add(known)
                yield line_of(line)

    # -------------------------------------------------------------------------------------------------------- acting

    def prepare(self, job: Path | str | Draft, *, again: bool = False) -> Prepared:
        """Reads, checks, packs and signs a job, under the newest roll of the members, and sends nothing of it."""
        from coordinator.client.submission import prepare, read_draft

        draft = read_draft(Path(job), self.home) if isinstance(job, (str, Path)) else job
        return prepare(draft, self.home, self.newest_roll(), again=again)

    def submit(self, job: Path | str | Prepared, *, again: bool = False, progress: Progress = _silent) -> Submission:
        """Uploads the bundle (and a snapshot file) and submits the signed job. The same job again changes nothing."""
        prepared = self.prepare(job, again=again) if isinstance(job, (str, Path)) else job
        self.put_packed(prepared, progress)
        reply = self._call(self._jobs.Submit, jobs_pb2.SubmitRequest(manifest=prepared.envelope))
        if reply.job != prepared.digest:
            raise FederationError("The coordinator answered with the digest of another job.", hint="Tell the operator.")
        note(self.home.path, self.endpoint.federation, "submission", prepared.envelope)
        return Submission(prepared.name, prepared.digest, reply.created)

    def put_packed(self, prepared: Prepared | Packed, progress: Progress = _silent) -> None:
        """Uploads a bundle, and a snapshot file where there is one."""
        self._blobs.put(prepared.bundle.data, prepared.bundle.digest, progress)
        if prepared.snapshot is not None:
            self._blobs.put(prepared.snapshot.path, prepared.snapshot.digest, progress)

    def submit_study(self, study: Path | str) -> StudyState:
        """Reads, checks, packs, signs and submits a study. The same study again changes nothing."""
        from coordinator.client.studies import StudyCalls, prepare_study, study_draft
        from coordinator.client.submission import read_document

        prepared = prepare_study(study_draft(*read_document(Path(study))), self.home, self.newest_roll())
        StudyCalls(self).submit(prepared)
        return next(each for each in self.studies() if each.digest == prepared.study.digest)

    def studies(self) -> list[StudyState]:
        """Every study and what members answered, the newest first."""
        from coordinator.client.studies import StudyCalls

        return StudyCalls(self).list()

    def withdraw(self, name: str, reason: str = "") -> Job:
        """The lead takes a job back, under the lead's signature."""
        self.home.profile("lead")
        job = self.job(name)
        if job.ended:
            raise InvalidUsage(
                f"job/{job.name} has already ended: it is {job.state}.", hint="There is nothing to cancel."
            )
        envelope = seal_withdrawal(job.digest, reason, self.home.identity_key())
        ended = job_of(self._call(self._jobs.Withdraw, jobs_pb2.WithdrawRequest(withdrawal=envelope)))
        note(self.home.path, self.endpoint.federation, "withdrawal", envelope)
        return ended

    def fetch_release(
        self, name: str, folder: Path | str, *, keep_sealed: bool = False, progress: Progress = _silent
    ) -> Report:
        """Downloads a job's release into ``folder`` and verifies it against this home's roll. Continues where it stopped.
        A release that is sealed for this home's key is opened, unless ``keep_sealed``; one for others stays sealed.

        Raises NotFound when there is no release yet, VerificationFailed when it does not check: then it stays in ``folder``.part.
        """
        from coordinator.client.release_folder import check_free, download, recipient_of
        from federation.releases.listing import LARGE, LISTING, MANIFEST

        check_free(Path(folder))
        view = self._call(self._jobs.GetRelease, jobs_pb2.JobQuery(job=name))
        if not view.files:
            raise NotFound(f"job/{name} has no release.", hint=f"See `concord describe {name}`: is it finished?")
        paths = {item.path for item in view.files}
        if MANIFEST in paths and paths.isdisjoint({LISTING, *LARGE}):  # its evidence alone
            raise NotFound(
                f"The release of job/{name} is proposed, and waits for the members' vote.",
                hint=f"See `concord release show {name}`.",
            )
        return download(
            self._blobs,
            view,
            Path(folder),
            self.home.roll_envelope(),
            None if keep_sealed else recipient_of(self.home),
            progress,
        )

    def fetch_evidence(self, name: str, folder: Path) -> None:
        """Of a release that is proposed: what members look at before they vote. Nothing of it is checked here."""
        from coordinator.client.release_folder import take

        take(self._blobs, self._call(self._jobs.GetRelease, jobs_pb2.JobQuery(job=name)), folder, _silent)

    # ------------------------------------------------------------------------------------------------------ plumbing

    def _call(self, method: Callable[..., Any], request: object) -> Any:
        with spoken_errors(self.route):
            return method(request, timeout=UNARY_SECONDS)

    def _followed(
        self,
        opened: Callable[[], Any],
        patience: float,
        away: Callable[[FederationError], None],
        *,
        ends: bool = False,
    ) -> Iterator[Any]:
        """The messages of a stream that is opened anew when it breaks or grows old.

        ``ends``: a stream that the coordinator closes in order is at its end.
        """
        reached = False
        silent_since: float | None = None
        pause = PAUSE_SECONDS
        while True:
            call = opened()
            heard = False
            try:
                for message in call:
                    reached = heard = True
                    silent_since, pause = None, PAUSE_SECONDS
                    yield message
                if ends:
                    return
            except grpc.RpcError as error:
                failure = error_of(error, self.route)
                if not isinstance(failure, Unavailable) or not reached:
                    raise failure from None
                if heard and isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    continue  # It grew old while the coordinator answered: nothing is wrong.
                now = time.monotonic()
                if silent_since is None:
                    silent_since = now
                    away(failure)
                if now - silent_since > patience:
                    raise failure from None
            finally:
                call.cancel()
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["Federation", "FederationState", "Job", "LogLine", "Submission"]
