"""What the joint model is held against: each member alone, and all scans pooled in one place (which no member would allow).

Alone: as many steps as the member takes in the federation. Pooled: as many steps as all members take together. Both use the
app's own training code and settings, without the calibration, which serves joint training only (to a lab alone it does harm).
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.digits.partition import Scans, Shard, read

APP = Path(__file__).parent / "app"
ROUNDS = 10
MODEL_SEED = 3


def settings() -> dict[str, Any]:
    document = tomllib.loads((APP / "pyproject.toml").read_text())
    return dict(document["tool"]["flwr"]["app"]["config"])


def task() -> Any:
    """The app's own model and training code."""
    if str(APP) not in sys.path:
        sys.path.insert(0, str(APP))
    from digits_app import task as module

    return module


def parameter_count() -> int:
    return sum(parameter.numel() for parameter in task().Net().parameters())


def accuracy_of(model_file: Path, test: Scans) -> float:
    """Of a released model.safetensors, on held-out scans."""
    import torch
    from safetensors.torch import load_file

    model = task().Net()
    model.load_state_dict(load_file(model_file))
    accuracy: float = task().judge(model, torch.from_numpy(test.images), torch.from_numpy(test.labels))[1]
    return accuracy


def alone(shard: Shard, test: Scans) -> float:
    return _trained([read(shard.path)], test, ROUNDS * int(settings()["local-steps"]))


def pooled(shards: Sequence[Shard], test: Scans) -> float:
    steps = ROUNDS * int(settings()["local-steps"]) * len(shards)
    return _trained([read(shard.path) for shard in shards], test, steps)


def _trained(parts: Sequence[Scans], test: Scans, steps: int) -> float:
    import numpy as np
    import torch

    config = settings()
    torch.manual_seed(MODEL_SEED)
    model = task().Net()
    scans = torch.from_numpy(np.concatenate([part.images for part in parts]))
    labels = torch.from_numpy(np.concatenate([part.labels for part in parts]))
    task().train(
        model,
        scans,
        labels,
        steps=steps,
        batch=int(config["batch-size"]),
        rate=float(config["learning-rate"]),
        seed=int(config["seed"]),
    )
    accuracy: float = task().judge(model, torch.from_numpy(test.images), torch.from_numpy(test.labels))[1]
    return accuracy
