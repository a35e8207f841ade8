"""The model, how it learns, and how it is judged: as in FLamby's Fed-Heart-Disease (arXiv 2210.04620)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

torch.set_num_threads(1)

FEATURES = 13


class Regression(nn.Module):
    """Logistic regression; its weights are the first that are drawn after the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, 1)

    def forward(self, features: Tensor) -> Tensor:
        """The log-odds of disease, [n]."""
        odds: Tensor = self.linear(features)
        return odds.squeeze(1)


def load_rows(folder: str, part: str) -> tuple[Tensor, Tensor]:
    """``part``: train or test."""
    with np.load(Path(folder) / f"{part}.npz", allow_pickle=False) as found:
        return torch.from_numpy(found["features"]), torch.from_numpy(found["labels"])


def train(
    model: nn.Module,
    features: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    proximal: float = 0.0,
) -> float:
    """``steps`` of plain SGD over shuffled rows; returns the mean loss. ``proximal``: FedProx's mu.

    The step is written out: the first use of torch.optim loads torch's compiler, which costs a worker seconds.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    model.train()
    total, rows = 0.0, torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if not len(rows):
            rows = torch.randperm(len(labels), generator=generator)
        chosen, rows = rows[:batch], rows[batch:]
        loss = functional.binary_cross_entropy_with_logits(model(features[chosen]), labels[chosen])
        total += loss.item()
        if proximal:
            apart = sum((now - then).square().sum() for now, then in zip(parameters, start, strict=True))
            loss = loss + proximal / 2 * apart
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=-rate)
    return total / max(1, steps)


def judge(model: nn.Module, features: Tensor, labels: Tensor) -> tuple[float, float]:
    """(mean loss, accuracy)."""
    model.eval()
    with torch.no_grad():
        odds = model(features)
        loss = functional.binary_cross_entropy_with_logits(odds, labels).item()
        accuracy = ((odds > 0).float() == labels).float().mean().item()
    return loss, accuracy
