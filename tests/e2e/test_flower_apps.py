"""An app as Flower's users write it: what it is given, what becomes of arrays of every kind, where its words go."""

import json
from typing import Any

import numpy as np

from coordinator.client.views import Job
from tests.e2e.commands import said
from tests.e2e.runs import APPS, DATA, LABELS, Runs

ROUNDS = 2
RATE = 0.25


def given(runs: Runs, member: str, job: Job) -> list[tuple[str, dict[str, Any]]]:
    """What the app was called with, as its prints in the lab's log tell."""
    log = runs.local.nodes[member].home / "jobs" / job.digest.hex() / "task.log"
    lines = [line.partition("GIVEN ")[2] for line in log.read_text().splitlines() if "GIVEN " in line]
    return [(kind, json.loads(text)) for kind, _, text in (line.partition(" ") for line in lines)]


def test_an_app_as_flowers_users_write_it(three: Runs) -> None:
    document = three.document(
        "quickstart",
        app=APPS / "quickstart",
        rounds=ROUNDS,
        run_config={"nesterov": True, "local-epochs": 2, "schedule": "linear"},
        messageConfig={"lr": RATE, "warm": 1.0, "epochs": 3},
        extraDataSets=[LABELS],
    )
    job = three.run(document)
    assert job.state == "finished", job.lines
    assert [item.loss for item in job.rounds] == [1.0 - RATE * number for number in range(ROUNDS + 1)]

    calls = given(three, "be", job)
    assert [kind for kind, _ in calls] == [*["evaluate", "train"] * ROUNDS, "evaluate"]
    run, node, message = (calls[1][1][name] for name in ("run", "node", "message"))
    assert run == {
        "num-server-rounds": 3,
        "local-epochs": 2,
        "fraction-evaluate": 1.0,
        "learning-rate": 0.1,
        "nesterov": True,
        "schedule": "linear",
        "model.width": 3,
    }
    assert isinstance(run["fraction-evaluate"], float)  # canonical JSON writes it as 1
    assert (node["partition-id"], node["num-partitions"]) == (1, 3)
    assert node["data-path"] == node[DATA]
    assert node[LABELS].endswith("/labels.csv")
    assert message == {"server-round": 1, "lr": RATE, "warm": 1.0, "epochs": 3}
    assert (type(message["warm"]), type(message["epochs"])) == (float, int)
    assert calls[0][1]["message"] == message

    model = three.model(job.name)
    want = {
        "layers.0.weight": np.full((2, 3), ROUNDS * RATE, np.float32),
        "layers.0.bias": np.full(3, ROUNDS * RATE, np.float64),
        "norm.num_batches_tracked": np.zeros((), np.int64),  # no average: integers and booleans keep the round's value
        "norm.mask": np.ones(3, np.bool_),
        "empty": np.zeros((0, 4), np.float32),
        "scale": np.array(1 + ROUNDS * RATE, np.float16),
    }
    assert list(model) == list(want)
    for name, array in want.items():
        assert (model[name].dtype, model[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(model[name], array)


def test_the_lead_is_told_that_the_server_app_is_not_run_and_what_a_message_lacks(three: Runs) -> None:
    document = three.document("no-rate", app=APPS / "quickstart", rounds=1, deadlines={"attempts": 1})
    home = three.local.lead_home
    applied = said("concord", "apply", "-f", document, "--home", home)
    assert "the app's ServerApp (quickstart.server_app:app) is not run" in applied.err
    assert "spec.messageConfig" in applied.err
    watched = said("concord", "watch", document.stem, "--home", home)
    assert watched.code == 1
    assert "concord logs" in watched.err
    story = said("concord", "logs", document.stem, "--home", home).out
    assert "the task failed in train: KeyError at quickstart/client_app.py:" in story
