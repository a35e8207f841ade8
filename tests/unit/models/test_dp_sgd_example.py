"""examples/dp_sgd: the task keeps its promise, by Opacus, and the node charges at least what Opacus counts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.manifest.document import load_job
from federation.manifest.privacy import charges_of, privacy_of, settled
from federation.privacy.accounting import epsilon_of

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "dp_sgd"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(EXAMPLE / "app"))
    yield importlib.import_module("dp_sgd_app.task")
    for name in [name for name in sys.modules if name.startswith("dp_sgd_app")]:
        del sys.modules[name]


def scans(task: Any, count: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 64, generator=generator), torch.randint(0, 10, (count,), generator=generator)


def weights(model: Any) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in model.parameters()])


def test_every_step_carries_the_noise_that_the_manifest_states(task: Any) -> None:
    """With records whose gradients are cut to nearly nothing, what is left is the noise: its spread is the stated one."""
    import torch

    images, labels = scans(task, 200)
    multiplier, clip, steps, rate, pace = 3.0, 1.0, 40, 0.1, 0.5
    model = task.Net()
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    assert (
        task.train(model, images, labels, steps=steps, rate=rate, clip=clip, multiplier=multiplier, pace=pace) == steps
    )
    wanted = multiplier * clip * pace / (rate * 200) * np.sqrt(steps)
    assert weights(model).size == 650
    assert 0.85 < weights(model).std() / wanted < 1.2
    again = task.Net()
    with torch.no_grad():
        for value in again.parameters():
            value.zero_()
    task.train(again, images, labels, steps=steps, rate=rate, clip=clip, multiplier=multiplier, pace=pace)
    assert abs(np.corrcoef(weights(model), weights(again))[0, 1]) < 0.5, "each run has noise of its own"


def test_one_record_moves_a_step_by_no_more_than_its_clip(task: Any) -> None:
    """Without noise, at rate 1, one step with a wild record more differs by at most clip times the pace."""
    import torch

    images, labels = scans(task, 50)
    more, named = torch.cat([images, 1e4 * torch.ones(1, 64)]), torch.cat([labels, labels[:1]])
    stepped = []
    for rows, names in ((images, labels), (more, named)):
        model = task.Net()
        with torch.no_grad():
            for value in model.parameters():
                value.zero_()
        pace = 0.5 * len(names)  # per record, not per batch
        task.train(model, rows, names, steps=1, rate=1.0, clip=0.25, multiplier=0.0, pace=pace)
        stepped.append(weights(model))
    assert np.linalg.norm(stepped[1] - stepped[0]) <= 0.25 * 0.5 * (1 + 1e-4)
    assert np.linalg.norm(stepped[0]) > 0


def test_empty_batches_are_steps_like_others(task: Any) -> None:
    images, labels = scans(task, 3)
    assert task.train(task.Net(), images, labels, steps=8, rate=1e-6, clip=1.0, multiplier=1.0, pace=0.1) == 8


def test_the_node_charges_at_least_what_opacus_counts() -> None:
    from opacus.accountants import RDPAccountant

    spec = settled(load_job((EXAMPLE / "job.yaml").read_text(), "job.yaml")).spec
    privacy = privacy_of(spec)
    assert privacy is not None
    ours = epsilon_of(charges_of(spec, privacy), privacy.delta, privacy.unit)
    assert 3.99 < ours <= 4.0
    accountant = RDPAccountant()
    accountant.history = [(privacy.noise_multiplier, privacy.sample_rate, privacy.steps * spec.rounds)]
    theirs = accountant.get_epsilon(privacy.delta)
    assert theirs <= ours <= theirs * 1.1
