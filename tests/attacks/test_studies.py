"""Attacks on a study: runs that pretend to lie inside it. A real node and journal; the coordinator may say and forget anything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from federation.errors import PolicyDenied
from federation.v1 import rounds_pb2
from node_agent.agent import NodeAgent
from node_agent.rounds import training
from tests.unit.agent.hall import Bench
from tests.unit.agent.test_node_consents import Node, asking
from tests.unit.agent.test_studies import ALLOWS, OTHER_CODE, about, answer, runs, used
from tests.unit.manifest.studied import run_of, study_of


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(training, "Worker", Bench)
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, ALLOWS)


def test_other_code_under_a_studys_name_is_refused_before_anything_of_it_is_fetched(node: Node) -> None:
    """60: the lead signs it, names the study, and the coordinator carries it: each word of the study is compared at the node."""
    study = study_of(node.parties)
    node.play(about(study))
    fetched = len(node.fetched)
    run = run_of(node.parties, study, files=OTHER_CODE)
    node.play(asking(run))
    said = answer(node, run.digest)
    assert not said.granted
    assert said.reasons[0].startswith("study: spec.bundle.digest: ")
    assert len(node.fetched) == fetched
    assert node.restarted() == ()
    assert used(node, study).runs == 0


def test_one_run_more_is_refused_whatever_the_coordinator_replays_forgets_or_says_ended(node: Node) -> None:
    """60: the count is the node's, on its own disk; nothing that comes from outside takes a run out of it."""
    study = study_of(node.parties)
    first, second, third, more = runs(node, study, 4)
    ended = rounds_pb2.Instruction(job=first.digest, job_failed=rounds_pb2.JobFailed(reason="it never began"))
    finished = rounds_pb2.Instruction(job=second.digest, finished=rounds_pb2.Finished(rounds=0))
    over = rounds_pb2.Instruction(job=study.digest, finished=rounds_pb2.Finished(rounds=0))
    node.play(about(study), asking(first), ended, asking(second), finished, asking(third))
    node.play(over, about(study), asking(first), asking(more))
    for _ in range(2):
        node.play(asking(more))
    assert not answer(node, more.digest).granted
    assert "this would be run 4" in answer(node, more.digest).reasons[0]
    assert used(node, study).runs == 3
    assert node.restarted() == (third.digest,)


def test_a_runs_consent_without_a_place_on_the_nodes_own_disk_lets_nothing_be_trained(node: Node) -> None:
    """60: a consent that names the study is good while the study's is, and while the run is among those that were counted."""
    study = study_of(node.parties)
    run = run_of(node.parties, study)
    node.play(about(study), asking(run))

    def without(agent: NodeAgent, table: str, column: str, key: bytes) -> None:
        with agent.journal._change() as change:
            change(f"DELETE FROM {table} WHERE {column}=?", (key,))
        with pytest.raises(PolicyDenied):
            agent.lab.standing.check(run, {}, datetime.now(UTC))

    node.play(then=lambda agent: agent.lab.standing.check(run, {}, datetime.now(UTC)) and None)
    node.play(then=lambda agent: without(agent, "study_runs", "job", run.digest))
    node.play(then=lambda agent: without(agent, "consents", "job", study.digest))
