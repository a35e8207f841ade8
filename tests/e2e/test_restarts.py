"""kill -9 to the coordinator, a node, a worker: the job finishes, and nothing is counted twice."""

import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from coordinator.client.views import Job
from examples.local_federation import Service
from tests.e2e.commands import eventually
from tests.e2e.runs import EXAMPLES, Runs, plain_average, watch

ROUNDS = 5
DEADLINES = {"reconnectSeconds": 10, "readySeconds": 20}


def assert_undisturbed(runs: Runs, job: Job) -> None:
    """Every round closed once, with everybody, with one update of each; and the model is the plain average."""
    assert job.state == "finished", job.reason
    closed = [item for item in job.rounds if item.phase == "closed"]
    assert [item.round for item in closed] == list(range(1, ROUNDS + 2))
    assert all(item.cohort == ("ar", "be", "ch") for item in closed)
    assert len({item.weight for item in closed}) == 1
    assert len({item.bytes_up for item in closed[:ROUNDS]}) == 1
    found = runs.model(job.name)["vector"]
    np.testing.assert_allclose(found, plain_average(ROUNDS, 3), atol=ROUNDS * 2.0**-11)
    assert EXAMPLES == 100


def again(service: Service) -> None:
    service.kill()
    service.start()
    service.wait_ready()


def workers_of(node: Service) -> list[psutil.Process]:
    assert node.process is not None
    found = psutil.Process(node.process.pid).children(recursive=True)
    return [process for process in found if "node_agent.runner.worker_process" in " ".join(process.cmdline())]


def test_the_coordinator_is_killed_within_and_between_rounds(three: Runs) -> None:
    killed: list[tuple[int, str]] = []

    def kill(job: Job) -> None:
        current = job.current
        if current is None or current.round > ROUNDS:
            return
        wanted = "collecting" if current.round % 2 else "closed"
        if current.phase == wanted and current.round not in {number for number, _phase in killed}:
            killed.append((current.round, current.phase))
            again(three.local.coordinator)

    job = three.run(
        three.document("restarted", rounds=ROUNDS, run_config={"pause": 0.3}, deadlines=DEADLINES), each=kill
    )
    assert {phase for _round, phase in killed} >= {"collecting"}
    assert len(killed) >= 3
    assert_undisturbed(three, job)


def test_the_coordinator_is_killed_at_any_moment(three: Runs) -> None:
    """Rounds without a pause last tens of milliseconds, so that a kill may fall into any phase."""
    path = three.document("anytime", rounds=ROUNDS, run_config={"pause": 0.02}, deadlines=DEADLINES)
    with three.submitted(path) as (client, name):
        for delay in (0.3, 0.05, 0.11):
            watch(client, name, until=lambda job: job.current is not None or job.ended)
            time.sleep(delay)
            again(three.local.coordinator)
        job = watch(client, name)
    assert_undisturbed(three, job)


def test_a_worker_that_is_killed_is_started_again(three: Runs) -> None:
    killed: list[int] = []

    def kill(job: Job) -> None:
        current = job.current
        if current is not None and current.round == 2 and current.phase == "collecting" and not killed:
            (worker,) = workers_of(three.local.nodes["be"])[-1:]
            killed.append(worker.pid)
            worker.kill()

    job = three.run(three.document("worker", rounds=ROUNDS, run_config={"pause": 0.5}, deadlines=DEADLINES), each=kill)
    assert killed
    assert_undisturbed(three, job)


def test_a_node_that_is_killed_finds_its_votes_and_goes_on_also_on_another_volume(three: Runs, tmp_path: Path) -> None:
    """The second time the lab has named a volume for the files of workers (``scratch`` in node.yaml)."""
    killed: list[int] = []
    there: set[str] = set()
    node = three.local.nodes["ch"]
    settings = node.home / "node.yaml"
    kept = settings.read_text()

    def kill(job: Job) -> None:
        current = job.current
        if len(killed) == 2:
            there.update(path.name for path in tmp_path.rglob("model-*.safetensors"))
        if current is None or current.phase != "collecting" or current.round in killed:
            return
        if len(killed) < 2 <= current.round <= ROUNDS:
            killed.append(current.round)
            if len(killed) == 2:
                settings.write_text(f"{kept}\nscratch: {tmp_path}\n")
            again(node)

    job = three.run(three.document("node", rounds=ROUNDS, run_config={"pause": 0.5}, deadlines=DEADLINES), each=kill)
    assert len(killed) == 2
    assert_undisturbed(three, job)
    assert there, "the worker read its models there"
    eventually(
        lambda: not [path for path in tmp_path.rglob("*") if path.is_file()]
    )  # the job has ended: nothing is left of them
    settings.write_text(kept)
    again(node)


@pytest.mark.parametrize("name", ["coordinator", "node"])
def test_sigterm_ends_a_service_cleanly_and_with_all_its_processes(three: Runs, name: str) -> None:
    service = three.local.coordinator if name == "coordinator" else three.local.nodes["be"]
    path = three.document("ended", rounds=30, run_config={"pause": 0.2}, deadlines=DEADLINES)
    with three.submitted(path) as (client, job):
        watch(client, job, until=lambda view: view.current is not None and view.current.round >= 2)
        assert service.process is not None
        tree = psutil.Process(service.process.pid).children(recursive=True)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0
        assert not [process for process in tree if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not (service.home / "run.json").exists()
        service.start()
        service.wait_ready()
        three.local.concord("cancel", job, "--reason", "the test is over")
        assert watch(client, job).state == "withdrawn"
