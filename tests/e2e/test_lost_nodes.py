"""Nodes that are lost: the round goes on with those that are left, and each sum is that of its certified cohort."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from coordinator.client.views import Job
from examples.local_federation import LocalFederation
from tests.e2e.runs import Runs, members_of, watch

PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"), ("dk", "DK"), ("eg", "EG"))
NAMES = tuple(name for name, _code in PLACES)
SPEC = {"deadlines": {"reconnectSeconds": 1, "readySeconds": 20}, "secureAggregation": {"ringBits": 32}}
"""32 bits, so that a wrong sum is not mistaken for rounding"""


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("five")
    with LocalFederation(folder / "federation", "five", members_of(folder / "data", *PLACES)) as local:
        yield Runs(local, folder)


def plain_rounds(cohorts: Sequence[Sequence[str]], rate: float = 0.5) -> np.ndarray:
    """What the app ``tiny`` gives when round r is trained by ``cohorts[r-1]`` alone, in float64."""
    vector = np.zeros(10)
    for round_number, cohort in enumerate(cohorts, 1):
        pulls = [(NAMES.index(name) + 1 - vector) * rate + round_number / 1024 for name in cohort]
        vector = vector + sum(pulls) / len(cohort)
    return vector


def assert_sums_of_their_cohorts(runs: Runs, job: Job, rounds: int) -> list[tuple[str, ...]]:
    assert job.state == "finished", job.reason
    closed = [item for item in job.rounds if item.phase == "closed"]
    assert [item.round for item in closed] == list(range(1, rounds + 2))
    cohorts = [item.cohort for item in closed[:rounds]]
    assert all(len(cohort) >= 4 for cohort in cohorts)
    found = runs.model(job.name)["vector"]
    np.testing.assert_allclose(found, plain_rounds(cohorts), atol=1e-4)
    # The comparison can fail: the model of full cohorts is another.
    if any(len(cohort) < 5 for cohort in cohorts):
        assert np.abs(found - plain_rounds([NAMES] * rounds)).max() > 1e-3
    return cohorts


def test_a_node_killed_in_the_middle_of_a_round_is_left_out_and_comes_back(five: Runs) -> None:
    events: dict[str, int] = {}
    node = five.local.nodes["dk"]

    def disturb(job: Job) -> None:
        current = job.current
        if current is None:
            return
        if "killed" not in events and current.round == 2 and current.phase == "collecting":
            node.kill()
            events["killed"] = current.round
        elif "killed" in events and "started" not in events and current.phase not in {"announced", "collecting"}:
            node.start()
            events["started"] = current.round

    spec = {**SPEC, "deadlines": {"reconnectSeconds": 4, "readySeconds": 20}}
    path = five.document("lost", rounds=8, run_config={"pause": 0.7}, **spec)
    job = five.run(path, each=disturb)
    node.wait_ready()
    cohorts = assert_sums_of_their_cohorts(five, job, 8)
    assert "dk" not in cohorts[1]
    back = next(number for number, cohort in enumerate(cohorts, 1) if number > 2 and "dk" in cohort)
    assert back <= 2 + 2
    assert all(cohort == NAMES for cohort in cohorts[back - 1 :])


def test_nodes_killed_at_random_moments_never_spoil_a_sum(five: Runs) -> None:
    dice = random.Random(7)
    rounds = 12
    victims = dice.sample([name for name in NAMES if name != "ch"], 3)  # whose pull is the mean of all five
    moments = sorted(dice.sample(range(2, rounds - 2), 3))
    down: list[str] = []

    def disturb(job: Job) -> None:
        current = job.current
        if current is None:
            return
        if down and current.round > moments[0]:
            five.local.nodes[down[0]].start()
            five.local.nodes[down.pop()].wait_ready()
            moments.pop(0)
        elif moments and not down and victims and current.round == moments[0] and dice.random() < 0.5:
            five.local.nodes[victims[0]].kill()
            down.append(victims.pop(0))
        elif moments and not down and current.round > moments[0]:
            moments.pop(0)

    path = five.document("storm", rounds=rounds, run_config={"pause": 0.1}, **SPEC)
    job = five.run(path, each=disturb)
    for name in down:
        five.local.nodes[name].start()
        five.local.nodes[name].wait_ready()
    assert len(victims) < 3
    assert_sums_of_their_cohorts(five, job, rounds)


def test_with_too_few_members_the_job_waits_says_so_and_continues(five: Runs) -> None:
    path = five.document("waits", rounds=4, run_config={"pause": 0.3}, **SPEC)
    with five.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.current is not None and job.current.phase == "collecting")
        for lost in ("ar", "be"):
            five.local.nodes[lost].kill()
        watch(client, name, until=lambda job: "ar" in job.reason and "be" in job.reason, seconds=20)
        shown = five.local.concord("describe", name)
        assert "ar" in shown
        for lost in ("ar", "be"):
            five.local.nodes[lost].start()
        job = watch(client, name)
    assert_sums_of_their_cohorts(five, job, 4)
