"""How FLamby scores a model: the accuracy on each centre's own test rows, and the plain mean over the centres.

Published: FLamby, table of the federated strategies on Fed-Heart-Disease (arXiv 2210.04620), mean over the seeds 42 to 46.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.heart_disease.prepare import Centre

APP: Final = Path(__file__).parent / "app"
JOBS: Final = Path(__file__).parent / "jobs"
SEEDS: Final = (42, 43, 44, 45, 46)
PUBLISHED: Final[Mapping[str, float]] = {"FedAvg": 0.6850, "FedProx": 0.6850, "FedAdam": 0.7255}
TOLERANCE: Final = 0.005


def task() -> Any:
    """The app's own model and training code."""
    if str(APP) not in sys.path:
        sys.path.insert(0, str(APP))
    from heart_app import task as module

    return module


def score(model_file: Path, centres: Mapping[str, Centre]) -> float:
    """Of a released model.safetensors."""
    from safetensors.torch import load_file

    model = task().Regression()
    model.load_state_dict(load_file(model_file))
    return mean_accuracy(model, centres)


def mean_accuracy(model: Any, centres: Mapping[str, Centre]) -> float:
    import torch

    rows = [centre.test for centre in centres.values()]
    judged = [task().judge(model, torch.from_numpy(part.features), torch.from_numpy(part.labels)) for part in rows]
    return float(np.mean([accuracy for _loss, accuracy in judged]))
