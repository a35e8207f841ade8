"""A coordinator that keeps a suspension to itself, over real processes: what the nodes see, and what shows it.

The members have decided by files. To a node it is all the same whether the coordinator was never told, or says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.client.governing import Wanted, new_proposal, next_roll, vote_bytes
from coordinator.client.home import Home
from examples.local_federation import LocalFederation
from federation.errors import InvalidUsage
from federation.governance.ballot import decision_bytes
from federation.governance.history import extended
from federation.governance.proposal import read_proposal, seal_proposal
from federation.identity.roll import Roll, open_draft
from tests.e2e.commands import eventually, refused, said
from tests.e2e.runs import Runs, members_of, watch

PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"), ("de", "DE"))
SHORT = {"reconnectSeconds": 1, "readySeconds": 2, "phaseSeconds": 2, "formationSeconds": 2, "formationAttempts": 2}


@pytest.fixture(scope="module")
def hiding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("hiding")
    with LocalFederation(folder / "federation", "hiding", members_of(folder / "data", *PLACES)) as local:
        yield Runs(local, folder)


def decided_by_files(local: LocalFederation) -> Path:
    """Three of four suspend de; nothing of it goes over the coordinator. The file of the new roll."""
    roll = Roll.open((local.folder / "roll.json").read_bytes())
    draft = next_roll(roll, Wanted(suspend=("de",)))
    now = datetime.now(UTC).replace(microsecond=0)
    keys = {name: Home.at(local.officer_home(name)).identity_key() for name in ("ar", "be", "ch")}
    asked = new_proposal(roll, "suspension", open_draft(draft)[0].digest, "de broke rule 4", now, 1.0)
    proposal = seal_proposal(asked, keys["ar"])
    digest = read_proposal(proposal).digest
    votes = [vote_bytes(digest, "yes", "", now, key) for key in keys.values()]
    path = local.folder / "roll-2.json"
    path.write_bytes(extended(roll, draft, decision_bytes(proposal, votes)).envelope)
    return path


def log_of(runs: Runs, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in runs.local.nodes[name].log.read_text().splitlines()]


def test_a_hidden_suspension_stops_the_job_once_a_node_knows_of_it(hiding: Runs) -> None:
    local = hiding.local
    everybody = {"deadlines": SHORT, "participants": {"minMembers": 4}}
    assert hiding.run(hiding.document("before", **everybody)).state == "finished"
    path = decided_by_files(local)
    node = local.nodes["ar"]
    node.stop()
    took = said("concord-node", "roll", "take", path, "--home", node.home)
    assert (took.code, "took version 2 in place of 1" in took.out) == (0, True), took
    node.start()
    node.wait_ready()
    # The coordinator goes on with de. ar does not, and a roster takes all of its members.
    with hiding.submitted(hiding.document("hidden", **everybody)) as (client, name):
        job = watch(client, name)
    assert job.state == "failed"
    refusals = [line for line in log_of(hiding, "ar") if line["event"] == "protocol.refused"]
    assert any("de is suspended by the roll, version 2" in str(line["detail"]) for line in refusals)


def test_a_coordinator_that_goes_back_to_an_older_roll_is_refused(hiding: Runs) -> None:
    """It still shows version 1: the node keeps its own, says so under its key, and so does an officer's home."""
    local = hiding.local
    eventually(lambda: any(line.get("check") == "stale-roll" for line in log_of(hiding, "ar")))
    assert not Roll.open((local.nodes["ar"].home / "roll.json").read_bytes()).member("de").active
    with local.client() as client:
        held = {each.member: each for each in client.describe().nodes}
    assert {name: held[name].roll for name in ("be", "ch", "de")} == {"be": 1, "ch": 1, "de": 1}
    assert held["ar"].roll == 2, "what the node itself has signed, and the coordinator cannot alter"
    home = local.lead_home
    known = (home / "roll.json").read_bytes()
    (home / "roll.json").write_bytes((local.folder / "roll-2.json").read_bytes())
    refused(
        said("concord", "get", "nodes", "--home", home), InvalidUsage, "trusts another roll", "version 2 is held here"
    )
    (home / "roll.json").write_bytes(known)
