"""Differential privacy through real processes: a job trains under noise, its labs charge their ledgers, and refuse the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator.client.release_folder import verify_folder
from examples.local_federation import LocalFederation, run_command
from node_agent.main import app as node_app
from tests.e2e.conftest import PLACES
from tests.e2e.runs import DATA, Runs, members_of, plain_average

BUDGET = (4.0, 1e-6, "member")
SPEC: dict[str, Any] = {
    "rounds": 3,
    "secureAggregation": {"clipNorm": 8.0},
    "metrics": {"train": ["train_loss"], "evaluate": ["eval_loss"]},
}


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Three members whose data set has a privacy budget."""
    folder = tmp_path_factory.mktemp("budgeted")
    members = members_of(folder / "data", *PLACES, policy={"ar": {"figures": []}}, budget=BUDGET)
    with LocalFederation(folder / "federation", "budgeted", members) as local:
        yield Runs(local, folder)


def budget_of(runs: Runs, member: str) -> dict[str, Any]:
    shown = run_command(node_app, "budget", "--home", runs.local.nodes[member].home, "-o", "json")
    (data_set,) = (each for each in json.loads(shown)["dataSets"] if each["dataSet"] == DATA)
    return dict(data_set)


def test_a_private_job_trains_is_charged_and_the_next_is_denied(budgeted: Runs) -> None:
    privacy = {"unit": "member", "epsilon": 3.5, "delta": 1e-6, "figures": {"noiseMultiplier": 8, "bound": 16}}
    document = budgeted.document("private", privacy=privacy, coordinatorView="sum", **SPEC)
    rehearsed = run_command(node_app, "try", document, "--home", budgeted.local.nodes["ar"].home)
    assert "privacy   Skellam noise of every member in each sum" in rehearsed
    assert "figures   these leave with noise, each held within 16: evaluate/eval_loss, train/train_loss" in rehearsed
    job = budgeted.run(document)
    assert job.state == "finished", job.reason
    for member in ("ar", "be", "ch"):
        account = budget_of(budgeted, member)
        assert (account["dataSet"], account["unit"], account["budget"]) == (DATA, "member", 4.0)
        assert 3.4 < account["spent"] <= 3.5
        assert account["spentAndReserved"] == account["spent"]
        (entry,) = account["jobs"]
        assert (entry["uploadsCharged"], entry["uploadsPlanned"]) == (4, 4)  # three rounds, and the final figures
        assert entry["mechanisms"] == ["skellam"]

    release = budgeted.release(job.name)
    assert verify_folder(release, (budgeted.local.folder / "roll.json").read_bytes()).ok
    config = json.loads((release / "config.json").read_text())
    assert config["privacy"] | {"noiseMultiplier": 0} == {
        "mechanism": "skellam", "unit": "member", "epsilon": 3.5, "delta": 1e-6, "noiseMultiplier": 0,
    }  # fmt: skip
    card = (release / "README.md").read_text()
    for words in ("Skellam noise of every member", "epsilon 3.5 at delta 1e-06", "for each member (unit of privacy)"):
        assert words in card
    # The noise is there, and no more of it than was asked for: a mean of three members with multiplier z and clip 8.
    vector = load_file(release / "model.safetensors")["vector"]
    multiplier = config["privacy"]["noiseMultiplier"]
    off = vector - plain_average(3, 3)
    assert 0.01 < np.std(off) < multiplier * 8 * 1.5

    second = budgeted.run(budgeted.document("second", privacy=privacy, **SPEC))
    assert second.state != "finished"
    for consent in second.consents:
        assert consent.state == "denied"
        (reason,) = consent.reasons
        assert reason.startswith("budget: The privacy budget of data set numbers is too small for this job")
    assert budget_of(budgeted, "ar")["spent"] == pytest.approx(budget_of(budgeted, "be")["spent"])

    bare = budgeted.run(budgeted.document("bare", **SPEC))
    assert bare.state != "finished"
    reasons = {consent.member: consent.reasons for consent in bare.consents}
    assert any("the job has no differential privacy" in reason for reason in reasons["be"])


def test_the_budget_outlives_the_node(budgeted: Runs) -> None:
    before = budget_of(budgeted, "ch")
    node = budgeted.local.nodes["ch"]
    node.kill()
    assert budget_of(budgeted, "ch") == before
    node.start()
    node.wait_ready()
    assert budget_of(budgeted, "ch") == before
    assert before["spent"] > 0
