"""A member that comes while a job runs takes part from the next epoch on; so does one that has lost its journal."""

import json

import pytest

from coordinator.client.views import Job
from tests.e2e.runs import Runs, watch

ROUNDS = 10
DEADLINES = {"reconnectSeconds": 3, "readySeconds": 20, "consentSeconds": 20}


def cohorts(job: Job) -> dict[int, tuple[str, ...]]:
    return {item.round: item.cohort for item in job.rounds if item.phase == "closed"}


def rosters(runs: Runs, job: Job) -> list[list[str]]:
    """The members of each epoch, from a release that verifies."""
    epochs = json.loads((runs.release(job.name) / "roster.json").read_text())["epochs"]
    return [[key["credential"] for key in epoch["roster"]["keys"]] for epoch in epochs]


@pytest.mark.parametrize("view", ["blind", "sum"])
def test_a_node_that_comes_late_joins_at_the_next_epoch(four: Runs, view: str) -> None:
    late = four.local.nodes["de"]
    late.stop()
    path = four.document("late", rounds=ROUNDS, run_config={"pause": 0.4}, deadlines=DEADLINES, coordinatorView=view)
    with four.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.current is not None and job.current.round >= 2)
        late.start()
        late.wait_ready()
        job = watch(client, name)
    assert job.state == "finished", job.reason
    assert cohorts(job)[1] == ("ar", "be", "ch")
    assert cohorts(job)[ROUNDS + 1] == ("ar", "be", "ch", "de")
    assert job.epoch == 2
    first, second = rosters(four, job)
    assert (len(first), len(second)) == (3, 4)


@pytest.mark.parametrize("restored", [False, True], ids=["lost", "put back from a copy"])
def test_a_node_whose_journal_is_not_the_one_that_it_wrote_comes_in_anew(four: Runs, restored: bool) -> None:
    node, name = four.local.nodes["be"], "restored" if restored else "forgetful"
    path = four.document(name, rounds=ROUNDS, run_config={"pause": 0.4}, deadlines=DEADLINES)
    journal = node.home / "journal.db"
    with four.submitted(path) as (client, job_name):
        watch(client, job_name, until=lambda job: job.current is not None and job.current.round >= 2)
        copy = journal.read_bytes()
        watch(client, job_name, until=lambda job: job.current is not None and job.current.round >= 3)
        node.kill()
        if restored:
            journal.write_bytes(copy)
        else:
            for path in node.home.glob("journal*"):
                path.unlink()
        node.start()
        node.wait_ready()
        job = watch(client, job_name)
    assert job.state == "finished", job.reason
    assert any("be" not in cohort for cohort in cohorts(job).values())
    assert "be" in cohorts(job)[ROUNDS + 1]
    assert len(rosters(four, job)) == 2
    said = node.log.read_text()
    assert ("journal.restored" in said) == restored
    if restored:
        line = next(json.loads(line) for line in said.splitlines() if "journal.restored" in line)
        assert "were made" in line["why"]
        assert "asked anew" in line["hint"]
