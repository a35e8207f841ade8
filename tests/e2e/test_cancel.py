"""The lead takes a job back: it ends within seconds everywhere, under the lead's signature alone, and only once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from coordinator.client.channel import spoken_errors
from coordinator.client.views import Job
from federation.errors import FederationError, InvalidIdentity, InvalidUsage, NotFound, OutOfOrder
from federation.identity.keys import SigningKey
from federation.identity.withdrawal import seal_withdrawal
from federation.v1 import jobs_pb2, jobs_pb2_grpc
from node_agent.store.journal import Journal
from tests.e2e.commands import eventually, refused, said, says
from tests.e2e.runs import Runs, watch, workers

SECONDS = 30.0
"""a cancelled job has ended everywhere within this time"""


def journal_says(home: Path, job: Job) -> tuple[str, str, int]:
    """(state, reason, how many secrets and votes are still remembered)"""
    with closing(Journal(home / "journal.db", read_only=True)) as journal:
        record = journal.job(job.digest)
        assert record is not None
        return record.state, record.reason, len(journal.records(job.digest))


def ended_everywhere(runs: Runs, job: Job, reason: str) -> None:
    for service in runs.local.nodes.values():
        eventually(lambda home=service.home: journal_says(home, job) == ("withdrawn", reason, 0), SECONDS)
        folder = service.home / "jobs" / job.digest.hex()
        eventually(lambda folder=folder: {path.name for path in folder.glob("*")} <= {"task.log"}, SECONDS)
    assert not (runs.local.coordinator.home / "spool" / job.digest.hex()).exists()


def test_a_running_job_is_cancelled_within_seconds_and_only_once(three: Runs) -> None:
    lead = three.local.lead_home
    path = three.document("cancelled", rounds=1000, run_config={"pause": 0.1})
    with three.submitted(path) as (client, name):
        command = [sys.executable, "-m", "coordinator.client.main", "watch", name, "--home", str(lead)]
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            job = watch(client, name, until=lambda job: job.rounds_closed >= 2)
            assert len(workers(three)) >= 3
            began = time.monotonic()
            answer = said("concord", "cancel", name, "--reason", "wrong data", "--home", lead)
            out, err = watching.communicate(timeout=SECONDS)
        finally:
            watching.kill()
            watching.wait()
        assert time.monotonic() - began < SECONDS
        assert (answer.code, answer.out) == (0, f"job/{name} withdrawn\n")
        assert watching.returncode == 7
        assert err.startswith("its curves are in "), err
        assert out.splitlines()[-1] == f"job/{name} withdrawn: withdrawn by lead: wrong data"
        eventually(lambda: workers(three) == [], SECONDS)
        ended_everywhere(three, job, "wrong data")

        refused(
            said("concord", "cancel", name, "--home", lead),
            InvalidUsage,
            f"job/{name} has already ended: it is withdrawn",
        )
        again = seal_withdrawal(job.digest, "again", client.home.identity_key())
        with pytest.raises(FederationError) as caught, spoken_errors(client.route):
            jobs_pb2_grpc.JobsStub(client.channel).Withdraw(jobs_pb2.WithdrawRequest(withdrawal=again), timeout=10)
        says(caught.value, OutOfOrder, "A job that is withdrawn cannot become withdrawn", "Nothing was changed")
        ended = client.job(name)
        assert ended.reason == "withdrawn by lead: wrong data"
        assert {view.phase for view in ended.rounds} <= {"closed", "aborted"}
        assert ended.rounds[-1].phase == "closed" or "wrong data" in ended.rounds[-1].reason
    assert said("concord", "watch", name, "--home", lead).code == 7
    refused(
        said("concord", "release", "fetch", name, "--out", three.folder / "none", "--home", lead),
        NotFound,
        "has no release",
    )


def test_a_job_that_waits_says_why_and_can_be_cancelled(three: Runs) -> None:
    lead = three.local.lead_home
    with three.submitted(three.document("waiting", resources={"gpus": 64})) as (client, name):
        job = watch(client, name, until=lambda job: job.state == "ready" and "waits" in job.reason)
        assert "it needs 3 members at once, and 0 could take it even with nothing else running" in job.reason
        assert "of 64 free GPUs that fit" in job.reason
        assert job.reason in said("concord", "describe", name, "--home", lead).out
        assert said("concord", "cancel", name, "--home", lead).code == 0
        ended_everywhere(three, job, "")
        assert client.job(name).reason == "withdrawn by lead: no reason given"


def test_nobody_but_its_lead_takes_a_job_back(three: Runs, tmp_path: Path) -> None:
    """Whoever holds the lead's connection, but not the lead's key."""
    thief = tmp_path / "thief"
    shutil.copytree(three.local.lead_home, thief)
    (thief / "keys" / "identity.key").write_bytes(SigningKey.generate().to_pem())
    with three.submitted(three.document("kept", rounds=3, run_config={"pause": 0.3})) as (client, name):
        watch(client, name, until=lambda job: job.state == "running")
        refused(
            said("concord", "cancel", name, "--home", thief),
            InvalidIdentity,
            "not signed by the lead who submitted the job",
        )
        refused(said("concord", "cancel", "nothing", "--home", thief), NotFound, "nothing")
        job = watch(client, name)
    assert (job.state, job.rounds_closed) == ("finished", 3)
    assert said("concord", "watch", name, "--home", three.local.lead_home).code == 0
    refused(
        said("concord", "cancel", name, "--home", three.local.lead_home),
        InvalidUsage,
        "has already ended: it is finished",
    )
