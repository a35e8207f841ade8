"""A stop that stops: in real processes, from the command to the last process gone, and never back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import yaml

from coordinator.client.views import Job
from federation.errors import Halted
from node_agent.store.journal import Journal
from tests.e2e.commands import eventually, refused, said
from tests.e2e.runs import FAULTY, Runs, watch, workers

STOP_SECONDS = 5.0
"""on a machine that does other things as well; the benchmark has the figure"""


def journal_says(runs: Runs, member: str, job: Job) -> tuple[str, int]:
    """(state, how many secrets and votes are still remembered)"""
    with closing(Journal(runs.local.nodes[member].home / "journal.db", read_only=True)) as journal:
        record = journal.job(job.digest)
        return record.state if record is not None else "", len(journal.records(job.digest))


def nothing_left(runs: Runs, job: Job) -> None:
    for name, service in runs.local.nodes.items():
        eventually(lambda name=name: journal_says(runs, name, job) == ("stopped", 0), STOP_SECONDS)
        folder = service.home / "jobs" / job.digest.hex()
        eventually(lambda folder=folder: {path.name for path in folder.glob("*")} <= {"task.log"}, STOP_SECONDS)


@contextmanager
def lease_of(runs: Runs, member: str, seconds: float) -> Iterator[None]:
    """The node with a shorter lease of its own; afterwards as it was."""
    node = runs.local.nodes[member]
    settings = node.home / "node.yaml"
    before = settings.read_text()

    def restarted() -> None:
        node.stop()
        node.start()
        node.wait_ready()

    settings.write_text(yaml.safe_dump({**yaml.safe_load(before), "leaseSeconds": seconds}))
    restarted()
    try:
        yield
    finally:
        settings.write_text(before)
        restarted()


def running(job: Job) -> bool:
    return job.current is not None and job.current.round >= 2 and job.current.phase == "collecting"


def test_a_job_that_is_stopped_ends_everywhere_and_never_comes_back(three: Runs) -> None:
    lead = three.local.lead_home
    with three.submitted(three.document("halted", rounds=1000, run_config={"pause": 0.2})) as (client, name):
        job = watch(client, name, until=running)
        assert len(workers(three)) >= 3
        began = time.monotonic()
        answer = said("concord", "halt", name, "--level", "stop", "--reason", "it leaks", "--home", lead)
        assert answer.code == 0, answer
        assert time.monotonic() - began < STOP_SECONDS
        for member in ("ar", "be", "ch"):
            assert f"{member}/{member}-1 stop after" in answer.out
        assert "of the public log" in answer.err
        assert workers(three) == []
        eventually(lambda: client.job(name).state == "stopped", STOP_SECONDS)
        assert "it leaks" in client.job(name).reason
        nothing_left(three, job)

        listed = said("concord", "get", "halts", "--home", lead)
        assert "stands" in listed.out
        digest = listed.out.splitlines()[1].split()[0]
        refused(said("concord", "lift", digest, "--reason", "please", "--home", lead), Halted, "final")

        for service in (three.local.coordinator, *three.local.nodes.values()):
            service.kill()
            service.start()
            service.wait_ready()
        assert client.job(name).state == "stopped"
        assert workers(three) == []
        nothing_left(three, job)


def test_a_worker_that_ignores_sigterm_is_gone_too(three: Runs) -> None:
    path = three.document("stubborn", app=FAULTY, rounds=5, run_config={"fault": "hang-with-children"})
    with three.submitted(path) as (client, name):
        job = watch(client, name, until=lambda job: job.current is not None and job.current.phase == "collecting")
        eventually(lambda: len(workers(three)) >= 3)
        answer = said("concord", "halt", name, "--level", "stop", "--reason", "x", "--home", three.local.lead_home)
        assert answer.code == 0, answer
        assert workers(three) == []
        nothing_left(three, job)


def test_a_lab_halts_itself_with_the_coordinator_dead_and_stays_so_after_a_restart(three: Runs) -> None:
    node = three.local.nodes["be"]
    with three.submitted(three.document("own", rounds=1000, run_config={"pause": 0.2})) as (client, name):
        job = watch(client, name, until=running)
        three.local.coordinator.kill()
        answer = said(
            "concord-node", "halt", "--home", node.home, "--job", job.digest.hex(), "--reason", "the ministry called"
        )
        assert answer.code == 0, answer
        assert answer.out.startswith("stop here after"), answer
        assert node.process is not None
        left = [child for child in psutil.Process(node.process.pid).children(recursive=True) if child.is_running()]
        assert left == []
        eventually(lambda: journal_says(three, "be", job) == ("stopped", 0))
        node.kill()
        node.start()
        three.local.start_coordinator()
        node.wait_ready()
        eventually(lambda: "node be-1 of be" in said("concord", "get", "halts", "--home", three.local.lead_home).out)
        assert journal_says(three, "be", job) == ("stopped", 0)
        three.local.concord("cancel", name)


def test_a_member_holds_itself_and_goes_on_when_it_lifts_that(three: Runs) -> None:
    officer, lead = three.local.officer_home("ch"), three.local.lead_home
    spec = {"deadlines": {"readySeconds": 20}, "rounds": 6, "run_config": {"pause": 0.3}}
    with three.submitted(three.document("held", **spec)) as (client, name):
        watch(client, name, until=running)
        (officer / "roll.json").write_bytes((lead / "roll.json").read_bytes())
        order = ("halt", "--member", "ch", "--level", "hold", "--reason", "a visit", "--home", officer, "--via", lead)
        answer = said("concord", *order)
        assert answer.code == 0, answer
        assert answer.out.startswith("ch/ch-1 hold after")
        assert (
            "stands  ch by member ch: a visit"
            in said("concord-node", "halts", "--home", three.local.nodes["ch"].home).out
        )
        stood = client.job(name).rounds_closed
        digest = said("concord", "get", "halts", "--home", lead).out.splitlines()[1].split()[0]
        answer = said("concord", "lift", digest, "--reason", "it is over", "--home", officer, "--via", lead)
        assert answer.code == 0, answer
        job = watch(client, name)
        assert (job.state, job.rounds_closed) == ("finished", 6)
        assert stood < 6


def test_a_node_that_is_cut_off_stops_when_its_lease_ends_and_goes_on_afterwards(three: Runs) -> None:
    node, coordinator = three.local.nodes["ar"], three.local.coordinator
    with lease_of(three, "ar", 1.5):
        path = three.document(
            "cut", rounds=4, run_config={"pause": 2.0}, deadlines={"reconnectSeconds": 20, "readySeconds": 30}
        )
        with three.submitted(path) as (client, name):
            watch(client, name, until=lambda job: job.current is not None and job.current.phase == "collecting")
            assert node.process is not None
            assert coordinator.process is not None
            tree = psutil.Process(node.process.pid)
            eventually(lambda: tree.children(recursive=True))
            began = time.monotonic()
            os.kill(coordinator.process.pid, signal.SIGSTOP)
            try:
                eventually(lambda: [c for c in tree.children(recursive=True) if c.status() != "zombie"] == [])
                took = time.monotonic() - began
            finally:
                os.kill(coordinator.process.pid, signal.SIGCONT)
            assert took < 1.5 + 1.0
            job = watch(client, name)
            assert (job.state, job.rounds_closed) == ("finished", 4)


def test_a_drill_touches_nothing_and_measures(three: Runs) -> None:
    with three.submitted(three.document("drilled", rounds=6, run_config={"pause": 0.4})) as (client, name):
        watch(client, name, until=running)
        answer = said("concord", "drill", name, "--home", three.local.lead_home)
        assert answer.code == 0, answer
        assert answer.out.startswith("3 of 3 nodes answered in")
        answer = said("concord", "drill", name, "--really", "--level", "hold", "--home", three.local.lead_home)
        assert answer.code == 0, answer
        job = watch(client, name)
        assert (job.state, job.rounds_closed) == ("finished", 6)
        story = "\n".join(job.lines)
        assert story.index("held: hold of job") < story.index("running: the halt is lifted")
        assert [item.phase for item in job.rounds if item.phase in {"aborted", "void"}] == []
        assert "drill" in said("concord", "get", "halts", "--home", three.local.lead_home).out
