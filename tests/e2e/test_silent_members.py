"""A node that consents and then says nothing more (frozen, not gone): the roster is formed without it, and only so often."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.client.views import Job
from tests.e2e.commands import eventually
from tests.e2e.runs import Runs, watch

OTHERS = ("ar", "be", "ch")


@contextmanager
def frozen(runs: Runs, member: str) -> Iterator[None]:
    """The node's process stands still; its connection stays open."""
    process = runs.local.nodes[member].process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def placed_while_frozen(runs: Runs, member: str, **spec: object) -> Job:
    """A job to which ``member`` consents, that waits for a place, and gets it once ``member`` stands still. Its end."""
    with runs.local.client() as client:
        cpus = min(node.offer.cpus for node in client.describe().nodes)
        holder = client.submit(
            runs.document("holds", rounds=1, run_config={"pause": 60.0}, resources={"cpus": cpus})
        ).name
        watch(client, holder, until=lambda job: job.state == "running")
        document = runs.document("silent", run_config={"size": 11}, resources={"cpus": cpus}, **spec)
        name = client.submit(document).name
        watch(client, name, until=lambda job: job.state == "ready" and "waits" in job.reason)
        with frozen(runs, member):
            client.withdraw(holder, "makes room")
            return watch(client, name)


def test_a_member_that_falls_silent_is_left_out_of_the_roster(four: Runs) -> None:
    job = placed_while_frozen(four, "de", rounds=2, deadlines={"formationSeconds": 2, "readySeconds": 2})
    assert job.state == "finished", job.lines
    assert job.roster == OTHERS
    assert {consent.state for consent in job.consents} == {"granted"}
    assert {item.cohort for item in job.rounds if item.phase == "closed"} == {OTHERS}


def test_where_nobody_can_be_left_out_the_job_ends_and_names_who_was_silent(four: Runs) -> None:
    job = placed_while_frozen(
        four,
        "de",
        participants={"minMembers": 4},
        deadlines={"formationSeconds": 1, "formationAttempts": 2},
    )
    assert job.state == "failed"
    assert "de" in job.reason
    assert job.rounds == ()


def test_afterwards_it_takes_part_again(four: Runs) -> None:
    def connected() -> bool:
        with four.local.client() as client:
            return all(node.connected for node in client.describe().nodes)

    eventually(connected, 30)
    job = four.run(four.document("again", run_config={"size": 12}))
    assert job.state == "finished", job.reason
    assert job.roster == (*OTHERS, "de")
