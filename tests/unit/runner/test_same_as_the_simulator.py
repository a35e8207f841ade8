"""The same folder, one client, a fixed seed: our worker's reply equals the one in Flower's own simulator, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from federation.weights.tensors import read_arrays
from node_agent.runner.environment import SILENCE, THREADS

OWNER = Path(__file__).with_name("simulator_owner.py")
REPOSITORY = Path(__file__).parents[3]
CONFIG = {"server-round": 1}


def test_the_reply_equals_that_of_flowers_simulator_bit_for_bit(scene):
    spec = scene.spec("perceptron")
    model, simulated = scene.scratch / "initial", scene.place / "simulated"

    async def story():
        async with scene.worker("perceptron") as worker:
            await worker.initial_model("perceptron.task:Net", 3, model)
            again = scene.scratch / "again"
            await worker.initial_model("perceptron.task:Net", 3, again)
            assert again.read_bytes() == model.read_bytes()
            evaluated = await worker.evaluate(model, CONFIG, 60)
            return evaluated, await worker.train(model, scene.out, CONFIG, 60)

    evaluated, trained = scene.run(story())
    environment = {"PATH": os.environ["PATH"], "HOME": str(scene.place), "PYTHONPATH": str(REPOSITORY), **SILENCE}
    environment |= dict.fromkeys(THREADS, "1")
    command = [sys.executable, str(OWNER), str(spec.bundle), str(model), str(simulated)]
    ended = subprocess.run(command, capture_output=True, timeout=400, env=environment, cwd=scene.place, text=True)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout.splitlines()[-1])

    ours, theirs = read_arrays(scene.out), read_arrays(simulated)
    assert list(ours) == list(theirs) == list(read_arrays(model))
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        assert ours[name].tobytes() == array.tobytes(), name
    assert not np.array_equal(ours["first.weight"], read_arrays(model)["first.weight"])
    for reply, kind in ((evaluated, "evaluate"), (trained, "train")):
        assert reply.examples == figures[kind].pop("num-examples") == 96
        assert reply.metrics == figures[kind]
