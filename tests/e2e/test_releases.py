"""Who gets a release, and who does not: gates, votes and recalls, in real federations."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.client.views import Job
from examples.local_federation import LocalFederation
from federation.errors import NotFound, PolicyDenied
from tests.e2e.commands import refused, said
from tests.e2e.conftest import PLACES
from tests.e2e.runs import Runs, members_of, watch


@pytest.mark.timeout(120)
def test_a_release_is_withheld_when_a_gate_of_its_job_fails(three: Runs) -> None:
    """Blind: no member seals the model, so that not even the lead can read it."""
    gates = {"quality": [{"figure": "eval_loss", "atMost": 0.001}]}
    job = three.run(three.document("withheld", gates=gates))
    assert job.state == "finished"
    assert job.reason.startswith("release withheld: gate quality eval_loss: 0.9")
    assert job.reason.endswith(" > 0.001")
    assert not job.release
    home = ("--home", three.local.lead_home)
    assert job.reason in said("concord", "describe", job.name, *home).out
    assert job.reason in said("concord", "watch", job.name, *home).out
    refused(
        said("concord", "release", "fetch", job.name, "--out", three.folder / "none", *home),
        NotFound,
        "release withheld: gate quality eval_loss",
    )


@pytest.mark.timeout(120)
def test_a_release_whose_gates_pass_says_so(three: Runs) -> None:
    job = three.run(three.document("gated", gates={"quality": [{"figure": "eval_loss", "atMost": 100}]}))
    assert job.state == "finished"
    assert job.release
    three.release(job.name)
    card = (three.folder / f"release-{job.name}" / "README.md").read_text()
    assert "quality eval\\_loss: " in card


VOTED = {"quorums": {"release": "2/3"}}


@pytest.fixture(scope="module")
def voting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Three members whose charter asks two thirds of them before a release; their officers are logged in."""
    folder: Path = tmp_path_factory.mktemp("voting")
    members = members_of(folder / "data", *PLACES)
    with LocalFederation(folder / "federation", "voting", members, charter=VOTED) as local:
        for member in local.members:
            local.login_officer(member.id)
        yield Runs(local, folder)


def proposed(job: Job) -> bool:
    return "is proposed" in job.reason


@pytest.mark.timeout(180)
def test_two_of_three_officers_release_a_model_and_one_recalls_it(voting: Runs, tmp_path: Path) -> None:
    local, home = voting.local, ("--home", voting.local.lead_home)
    path = voting.document("voted", gates={"quality": [{"figure": "eval_loss", "atMost": 100}]})
    with voting.submitted(path) as (client, name):
        waiting = watch(client, name, until=proposed)
        assert waiting.state == "running"
        assert f"concord release approve {name}" in waiting.reason
        refused(
            said("concord", "release", "fetch", name, "--out", tmp_path / "early", *home),
            NotFound,
            "waits for the members",
        )
        shown = json.loads(local.concord("release", "show", name, "-o", "json"))
        assert (shown["state"], shown["approvedBy"]) == ("proposed", [])

        local.officer("ar", "release", "approve", name)
        assert watch(client, name, until=proposed).state == "running", "one of three is not enough"
        local.coordinator.kill()  # what was voted is not forgotten
        local.start_coordinator()
        local.officer("ch", "release", "approve", name)
        job = watch(client, name)
    assert job.state == "finished", job.reason
    roll = local.folder / "roll.json"
    release = voting.release(name)
    checks = json.loads(said("concord", "verify", release, "--roll", roll, "-o", "json").out)["checks"]
    (approval,) = [check for check in checks if check["check"] == "approval"]
    assert approval["ok"]
    assert "was approved by ar, ch: 2 of 3 by weight said yes" in approval["detail"]
    assert json.loads((release / "config.json").read_text())["release"]["approvedBy"] == ["ar", "ch"]

    recall = tmp_path / "recall.json"
    answer = said(
        "concord",
        "release",
        "recall",
        name,
        "--why",
        "it fails at night",
        "--out",
        recall,
        "--home",
        local.officer_home("be"),
    )
    assert answer.code == 0, answer
    answer = said("concord", "verify", release, "--roll", roll, "--recalls", recall)
    assert answer.code == 6
    assert "by be, under version 1 of the roll: “it fails at night”" in answer.out
    refused(
        said("concord", "release", "fetch", name, "--out", tmp_path / "late", *home),
        PolicyDenied,
        "was recalled by the members",
    )
    listed = json.loads(local.concord("release", "list", "-o", "json"))
    assert [each["state"] for each in listed if each["name"] == name] == ["recalled"]


@pytest.mark.timeout(120)
def test_the_members_votes_do_not_pass_a_failed_gate(voting: Runs) -> None:
    job = voting.run(voting.document("unfit", gates={"quality": [{"figure": "eval_loss", "atMost": 0.001}]}))
    assert job.state == "finished"
    assert job.reason.startswith("release withheld: gate quality")
    answer = said("concord", "release", "approve", job.name, "--home", voting.local.officer_home("ar"))
    assert answer.code != 0
    assert "is withheld" in answer.err
