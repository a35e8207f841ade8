"""The members lift a halt of everything by vote. And they move the coordinator while a job runs: from a copy of its home, at
another name and port; the place of before is nobody's coordinator any more."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordinator.client.sdk import Federation
from examples.local_federation import LocalFederation, Service
from federation.errors import InvalidIdentity
from federation.identity.roll import Roll
from node_agent.settings import Home as NodeHome
from tests.e2e.commands import eventually, refused, said
from tests.e2e.runs import Runs, members_of, watch

PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"))
SPEC = {"deadlines": {"reconnectSeconds": 1, "readySeconds": 5, "phaseSeconds": 5}, "participants": {"minMembers": 3}}


@pytest.fixture(scope="module")
def three_to_move(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("moved")
    with LocalFederation(folder / "federation", "moved", members_of(folder / "data", *PLACES)) as local:
        for name, _ in PLACES:
            local.login_officer(name)
        yield Runs(local, folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def version(runs: Runs, name: str) -> int:
    return Roll.open(NodeHome(runs.local.nodes[name].home).roll.read_bytes()).version


def connected(home: Path) -> set[str]:
    with Federation.connect(home) as federation:
        return {node.member for node in federation.describe().nodes if node.connected}


def test_a_halt_of_the_whole_federation_is_lifted_by_vote_and_its_job_goes_on(
    three_to_move: Runs, tmp_path: Path
) -> None:
    """One officer halts everybody; another takes it back with the members' decision, and not without."""
    local = three_to_move.local
    path = three_to_move.document("held-by-all", rounds=10, run_config={"pause": 0.2}, **SPEC)
    with three_to_move.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.rounds_closed >= 1)
        words = ("--federation", "--level", "hold", "--reason", "An incident", "--home", local.officer_home("ar"))
        answer = said("concord", "halt", *words)
        assert answer.code == 0, answer
        watch(client, name, until=lambda job: job.state == "held")
        (order,) = json.loads(local.officer("ar", "get", "halts", "-o", "json"))
        lift = ("concord", "lift", order["digest"][:12], "--reason", "It is over", "--home", local.officer_home("be"))
        refused(said(*lift), InvalidIdentity, "lifted by a vote, and the lift holds none")
        proposal = local.officer("be", "propose", "lift", "--subject", order["digest"]).strip()
        local.officer("be", "vote", proposal[:12], "yes")
        decision = tmp_path / "decision.json"
        local.officer("be", "proposals", proposal[:12], "--decision", decision)
        refused(said(*lift, "--decision", decision), InvalidIdentity)  # one of three
        decision.unlink()
        local.officer("ch", "vote", proposal[:12], "yes")
        local.officer("be", "proposals", proposal[:12], "--decision", decision)
        answer = said(*lift, "--decision", decision)
        assert answer.code == 0, answer
        job = watch(client, name)
        assert (job.state, job.rounds_closed) == ("finished", 10), job.reason


def test_the_coordinator_is_moved_by_vote_while_a_job_runs(three_to_move: Runs, tmp_path: Path) -> None:
    local, here = three_to_move.local, three_to_move.local.coordinator
    old = tmp_path / "a-home-that-knows-the-old-place"
    shutil.copytree(local.officer_home("ch"), old)
    place = f"localhost:{free_port()}"
    there = Service("coordinator-there", "coordinator.main", local.folder / "there")
    path = three_to_move.document("on-the-move", rounds=12, run_config={"pause": 0.2}, **SPEC)
    with three_to_move.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.rounds_closed >= 1)
    local.nodes["ch"].stop()  # it hears nothing of the vote
    proposal = local.officer("ar", "propose", "coordinator", "--address", place).strip()
    for officer in ("ar", "be"):
        local.officer(officer, "vote", proposal[:12], "yes")
    for node in ("ar", "be"):
        eventually(lambda node=node: version(three_to_move, node) == 2)
    local.concord("roll", "fetch")  # people's homes take the new roll, too
    local.officer("ar", "roll", "fetch")

    here.stop()
    shutil.copytree(here.home, there.home)
    settings = there.home / "coordinator.yaml"
    settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "listen": place}))
    there.start()
    try:
        there.wait_ready()
        eventually(lambda: connected(local.lead_home) == {"ar", "be"})
        # Whoever heard nothing is brought the roll as a file, and goes there, too.
        brought = tmp_path / "roll.json"
        local.officer("ar", "roll", "fetch", "--out", brought)
        answer = said("concord-node", "roll", "take", brought, "--home", local.nodes["ch"].home)
        assert answer.code == 0, answer
        local.nodes["ch"].start()
        local.nodes["ch"].wait_ready()
        with local.client() as client:
            job = watch(client, name)
        assert (job.state, job.rounds_closed) == ("finished", 12), job.reason
        three_to_move.release(name)
        # The operator of before starts what was left behind once more. No node is there, and nobody who has the roll asks there.
        here.start()
        here.wait_ready()
        assert connected(old) == set()
        assert connected(old) == {"ar", "be", "ch"}, "by now its home has the roll, and goes where the members say"
        assert connected(local.lead_home) == {"ar", "be", "ch"}
    finally:
        there.stop()
