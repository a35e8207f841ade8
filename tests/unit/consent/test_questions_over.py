"""A question that waits for a person ends with its job: whoever looks afterwards finds why, and nothing to decide."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from federation.errors import InvalidUsage
from federation.identity.consent import open_consent
from federation.identity.keys import SigningKey
from federation.identity.withdrawal import seal_withdrawal
from federation.v1 import rounds_pb2
from node_agent.agent import NodeAgent
from node_agent.consent.deciding import print_inbox, print_question
from node_agent.rounds import training
from node_agent.store.journal import Journal
from node_agent.store.questions import Question
from tests.unit.agent.hall import Bench
from tests.unit.agent.homes import manifest_of
from tests.unit.agent.test_node_consents import POLICY, Node, asking

ASKS = POLICY.replace("minimumCohort: 3,", "minimumCohort: 3, askAlways: true, deputies: [officer],")


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, ASKS)


def question_of(node: Node, job: bytes) -> Question:
    with Journal(node.home.journal, read_only=True) as journal:
        found = journal.question(job)
    assert found is not None
    return found


def ends(node: Node, job: bytes) -> dict[str, rounds_pb2.Instruction]:
    withdrawal = seal_withdrawal(job, "no money", node.parties.lead_key)
    return {
        "the coordinator says that the job has finished": rounds_pb2.Instruction(
            job=job, finished=rounds_pb2.Finished(rounds=3)
        ),
        "the coordinator says that the job has ended: too few": rounds_pb2.Instruction(
            job=job, job_failed=rounds_pb2.JobFailed(reason="too few")
        ),
        "its lead has taken the job back: no money": rounds_pb2.Instruction(
            job=job, withdrawn=rounds_pb2.Withdrawn(withdrawal=withdrawal)
        ),
    }


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
def test_the_question_ends_with_the_job_and_says_why(
    node: Node, which: int, restarted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of(node.parties)
    why, end = list(ends(node, manifest.digest).items())[which]
    if restarted:
        node.play(asking(manifest))
        assert question_of(node, manifest.digest).state == "waiting"
        node.play(end)
    else:
        node.play(asking(manifest), end)
    over = question_of(node, manifest.digest)
    assert (over.state, over.words) == ("over", why)
    print_inbox(node.home)
    assert capsys.readouterr().out == "nothing waits for a person\n"
    print_inbox(node.home, everything=True)
    assert f"over at {over.decided}, undecided: {why}" in capsys.readouterr().out
    print_question(node.home, manifest.name)
    assert f"undecided: {why}" in capsys.readouterr().out
    assert node.consents() == (), "nobody decided, and nothing is signed"
    assert node.restarted() == ()

    def decide(agent: NodeAgent) -> Any:
        return agent.inbox.grant(manifest.name, "officer", "")

    with pytest.raises(InvalidUsage, match="over since"):
        node.play(then=decide)
    assert node.consents() == ()


def test_an_end_that_comes_while_the_job_is_considered_counts(node: Node) -> None:
    """The bundle is still on its way when the job ends: no question is left behind by it."""
    manifest = manifest_of(node.parties)
    why, end = list(ends(node, manifest.digest).items())[1]

    async def story(agent: NodeAgent) -> None:
        plain = agent.link.get_blob

        async def slow(*words: Any) -> None:
            agent._hear(end)
            assert agent.journal.question(manifest.digest) is None
            await plain(*words)

        agent.link.get_blob = slow  # type: ignore[method-assign]
        agent._hear(asking(manifest))
        while agent.own.tasks.running:
            await asyncio.gather(*list(agent.own.tasks.running), return_exceptions=True)

    node.play(then=story)
    over = question_of(node, manifest.digest)
    assert (over.state, over.words) == ("over", why)


def test_a_stranger_cannot_end_a_question_in_the_name_of_its_lead(node: Node) -> None:
    manifest = manifest_of(node.parties)
    forged = seal_withdrawal(manifest.digest, "", SigningKey.generate())
    node.play(
        asking(manifest),
        rounds_pb2.Instruction(job=manifest.digest, withdrawn=rounds_pb2.Withdrawn(withdrawal=forged)),
        rounds_pb2.Instruction(job=manifest.digest, withdrawn=rounds_pb2.Withdrawn(withdrawal=b"{")),
        rounds_pb2.Instruction(job=bytes(32), job_failed=rounds_pb2.JobFailed(reason="another")),
    )
    assert question_of(node, manifest.digest).state == "waiting"


def test_a_decision_that_came_first_stands(node: Node) -> None:
    manifest = manifest_of(node.parties)
    end = list(ends(node, manifest.digest).values())[1]

    async def story(agent: NodeAgent) -> None:
        await agent.inbox.grant(manifest.name, "officer", "")
        agent._hear(end)
        with contextlib.suppress(asyncio.CancelledError):
            while agent.own.tasks.running:
                await asyncio.gather(*list(agent.own.tasks.running), return_exceptions=True)

    node.play(asking(manifest), then=story)
    assert question_of(node, manifest.digest).state == "granted"
    assert [record.granted for record in node.consents()] == [True]


def test_whoever_is_asked_again_about_a_question_that_is_over_denies_and_asks_nobody(node: Node) -> None:
    """A coordinator that had said that the job was over, and comes with it again."""
    manifest = manifest_of(node.parties)
    end = next(iter(ends(node, manifest.digest).values()))
    credential = node.play(asking(manifest), end, asking(manifest), then=lambda agent: agent.credential)
    answer = open_consent(node.answers()[-1].envelope, credential)
    assert not answer.granted
    assert answer.reasons[-1] == "consent: the question was over before anybody had decided"
    assert question_of(node, manifest.digest).state == "over"
    assert node.restarted() == ()


def test_a_node_that_comes_back_names_the_questions_that_wait_and_no_others(node: Node) -> None:
    manifest = manifest_of(node.parties)
    node.play(asking(manifest))
    with node.running() as agent:
        assert list(agent._hello().hello.questions) == [manifest.digest]
        assert agent.inbox.end(manifest.digest, "it is over")
        assert not agent.inbox.end(manifest.digest, "once more")
        assert list(agent._hello().hello.questions) == []
