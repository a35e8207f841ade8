"""A federation whose coordinator keeps its state in PostgreSQL: killed, its server crashed, nothing lost or counted twice."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from coordinator.client.views import Job
from examples.local_federation import LocalFederation, services_environment
from federation.errors import InvalidUsage, Unavailable, exit_code
from tests.e2e.commands import said
from tests.e2e.runs import Runs, members_of, plain_average
from tests.e2e.secrets_in_use import events_in, logs_in, secrets_in, told_in
from tests.postgresql import PostgresServer

ROUNDS = 5
PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Runs]:
    """The operator gives the URL by the environment, as a chart does."""
    folder = tmp_path_factory.mktemp("postgresql")
    with mock.patch.dict(os.environ, {"CONCORD_COORDINATOR_DATABASE": postgres.database("federation")}):
        local = LocalFederation(folder / "federation", "kept", members_of(folder / "data", *PLACES))
        with local:
            yield Runs(local, folder)


def test_the_coordinator_is_killed_and_its_server_crashes(runs: Runs, postgres: PostgresServer) -> None:
    coordinator = runs.local.coordinator
    done: list[str] = []

    def disturb(job: Job) -> None:
        current = job.current
        if current is None or current.phase != "collecting":
            return
        if current.round == 2 and not done:
            done.append("killed")
            coordinator.kill()
        elif current.round == 4 and len(done) == 1:
            done.append("crashed")
            postgres.stop(signal.SIGQUIT)
            assert coordinator.process is not None
            assert coordinator.process.wait(30) == exit_code(Unavailable(""))
            postgres.start()
        else:
            return
        coordinator.start()
        coordinator.wait_ready()

    path = runs.document(
        "kept", rounds=ROUNDS, run_config={"pause": 0.3}, deadlines={"reconnectSeconds": 10, "readySeconds": 20}
    )
    job = runs.run(path, each=disturb)
    assert done == ["killed", "crashed"]
    assert job.state == "finished", job.reason
    closed = [item for item in job.rounds if item.phase == "closed"]
    assert [item.round for item in closed] == list(range(1, ROUNDS + 2))
    assert len({item.weight for item in closed}) == 1
    np.testing.assert_allclose(runs.model(job.name)["vector"], plain_average(ROUNDS, 3), atol=ROUNDS * 2.0**-11)
    _tells_no_secret(runs, postgres, job)
    log = coordinator.log.read_text()
    assert '"event": "database.lost"' in log
    assert postgres.password not in log
    assert int(postgres.psql("federation", "select count(*) from log_entries")) > 20
    assert not (coordinator.home / "coordinator.db").exists()


def _tells_no_secret(runs: Runs, postgres: PostgresServer, job: Job) -> None:
    """Keys, tickets, the database's password and a passphrase in use, against all logs, the server's, and what commands print."""
    home = runs.local.officer_home("ar")
    word = runs.folder / "passphrase"
    word.write_text("correct horse battery staple")
    word.chmod(0o600)
    secrets = secrets_in(runs.folder)
    runs.local.login_officer("ar")
    secrets |= secrets_in(runs.folder)
    answers = []
    with mock.patch.dict(os.environ, {"CONCORD_PASSPHRASE_FILE": str(word)}):
        for arguments in (
            ("concord", "lock-key", "--home", home),
            ("concord", "propose", "suspension", "--suspend", "be", "--home", home),
            ("concord", "describe", job.name, "--home", runs.local.lead_home),
            ("concord", "doctor", "--home", home),
            ("concord-coordinator", "doctor", "--home", runs.local.coordinator.home),
            ("concord-node", "doctor", "--home", runs.local.nodes["ar"].home),
        ):
            answer = said(*arguments)
            assert answer.code == 0, (arguments, answer)
            answers.append((" ".join(map(str, arguments)), (answer.out + answer.err).encode()))
    secrets |= {"passphrase": {word.read_bytes()}, "password": {postgres.password.encode()}}
    secrets |= secrets_in(runs.folder)
    outputs = [*answers, *logs_in(runs.folder), ("server", postgres.log.read_bytes())]
    assert len(secrets) > 15
    assert told_in(outputs, secrets) == []
    assert told_in([("planted", b"x" + next(iter(secrets["password"])))], secrets) == ["planted: password"]
    node = events_in(runs.local.nodes["ar"].log)
    assert {(each["member"], each["node"]) for each in node if "library" not in each} == {("ar", "ar-1")}
    about = [each for each in events_in(runs.local.coordinator.log) if each.get("name") == job.name]
    rounds = {each["round"] for each in about if each["event"] == "round.closed"}
    assert rounds == set(range(1, ROUNDS + 2))
    assert all(each["job"] for each in about)


def test_a_second_coordinator_on_the_database_is_refused(runs: Runs, postgres: PostgresServer, tmp_path: Path) -> None:
    """From another home, which has a lock of its own."""
    home = tmp_path / "coordinator"
    shutil.copytree(runs.local.coordinator.home, home)
    settings = home / "coordinator.yaml"
    settings.write_text(
        settings.read_text().replace(str(runs.local.coordinator.wait_ready()["address"]), "127.0.0.1:0")
    )
    lost = runs.local.coordinator.log.read_text().count("database.lost")
    ended = subprocess.run(
        [sys.executable, "-m", "coordinator.main", "run", "--home", str(home)],
        env=services_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == exit_code(InvalidUsage("")), ended.stderr
    assert "Another coordinator runs on the database federation" in ended.stderr
    assert runs.local.coordinator.alive, "and the one that runs was not disturbed"
    assert runs.local.coordinator.log.read_text().count("database.lost") == lost
    assert b"deadlock" not in postgres.log.read_bytes()
    assert postgres.password not in ended.stderr


def test_the_state_moves_to_a_file_and_back_in_the_middle_of_a_job_and_no_node_takes_it_for_a_rollback(
    runs: Runs, postgres: PostgresServer
) -> None:
    coordinator, word = runs.local.coordinator, runs.folder / "word"
    word.write_text(postgres.password)
    word.chmod(0o600)
    plain = postgres.database("moved").replace(f":{postgres.password}@", "@")
    moves = {1: ("sqlite",), 2: (plain, "--password-file", word)}
    with mock.patch.dict(os.environ):

        def disturb(job: Job) -> None:
            current = job.current
            if current is None or current.round not in moves or current.phase != "collecting":
                return
            to, *more = moves.pop(current.round)
            coordinator.stop()
            answer = said("concord-coordinator", "database", "move", "--home", coordinator.home, "--to", to, *more)
            assert answer.code == 0, answer
            assert postgres.password not in answer.out + answer.err
            assert "entries of the public log, root" in answer.err
            os.environ.pop("CONCORD_COORDINATOR_DATABASE", None)
            if to != "sqlite":
                os.environ["CONCORD_COORDINATOR_DATABASE"] = to
                os.environ["CONCORD_COORDINATOR_DATABASE_PASSWORD_FILE"] = str(word)
            coordinator.start()
            coordinator.wait_ready()

        path = runs.document(
            "moved", rounds=3, run_config={"pause": 0.3}, deadlines={"reconnectSeconds": 10, "readySeconds": 20}
        )
        job = runs.run(path, each=disturb)
        assert moves == {}
        assert job.state == "finished", job.reason
        np.testing.assert_allclose(runs.model(job.name)["vector"], plain_average(3, 3), atol=3 * 2.0**-11)
        for node in runs.local.nodes.values():
            answer = said("concord-node", "doctor", "--home", node.home)
            assert answer.code == 0, answer
            assert "ok     log: This node has checked it" in answer.out, answer
            assert "witness.stopped" not in node.log.read_text()
        coordinator.stop()
    ended = subprocess.run(
        [sys.executable, "-m", "coordinator.main", "run", "--home", str(coordinator.home)],
        env=services_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == exit_code(InvalidUsage(""))
    assert "The coordinator's state is no longer in federation on" in ended.stderr
