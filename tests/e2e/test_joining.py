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


def test_a_node_that_lost_its_journal_comes_in_anew(four: Runs) -> None:
    node = four.local.nodes["be"]
    path = four.document("forgetful", rounds=ROUNDS, run_config={"pause": 0.4}, deadlines=DEADLINES)
    with four.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.current is not None and job.current.round >= 2)
        node.kill()
        for path in node.home.glob("journal*"):
            path.unlink()
        node.start()
        node.wait_ready()
        job = watch(client, name)
    assert job.state == "finished", job.reason
    assert any("be" not in cohort for cohort in cohorts(job).values())
    assert "be" in cohorts(job)[ROUNDS + 1]
    assert len(rosters(four, job)) == 2
