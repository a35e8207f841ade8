"""DP-SGD by Opacus, as the job's manifest states it: the node charges its ledger for exactly this, and cannot check it.

What the promise takes: each record is in a step's batch by chance ``rate``, apart from the others (Poisson sampling, empty
batches included); the gradient of each record is cut to ``clip``; the sum of a step's gradients gets Gaussian noise of
``multiplier`` times ``clip``, from a seed that the operating system gave; and nothing else of the data goes anywhere.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
PIXELS = 64

torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(PIXELS, CLASSES)

    def forward(self, scans: Tensor) -> Tensor:
        answer: Tensor = self.last(scans.flatten(1))
        return answer


def load_scans(folder: str) -> tuple[Tensor, Tensor]:
    with np.load(Path(folder) / "scans.npz", allow_pickle=False) as found:
        return torch.from_numpy(found["images"]), torch.from_numpy(found["labels"])


def fresh_generator() -> torch.Generator:
    """torch's own, seeded by the operating system: good statistics, but no cipher. Opacus knows no better one on a CPU."""
    return torch.Generator().manual_seed(secrets.randbits(63))


def train(
    model: nn.Module,
    scans: Tensor,
    labels: Tensor,
    *,
    steps: int,
    rate: float,
    clip: float,
    multiplier: float,
    pace: float,
) -> int:
    """``steps`` of DP-SGD; the model learns in place. Returns how many steps carried noise."""
    expected = max(1.0, rate * len(labels))
    wrapped = GradSampleModule(model.train(), loss_reduction="sum")
    optimiser = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=pace / expected),
        noise_multiplier=multiplier,
        max_grad_norm=clip,
        expected_batch_size=round(expected),
        loss_reduction="sum",
        generator=fresh_generator(),
    )
    taken: list[None] = []
    optimiser.attach_step_hook(lambda _optimiser: taken.append(None))
    drawn = fresh_generator()
    for _ in range(steps):
        chosen = torch.rand(len(labels), generator=drawn) < rate
        optimiser.zero_grad()
        rows = scans[chosen].requires_grad_()  # Opacus's hooks want one input that does
        functional.cross_entropy(wrapped(rows), labels[chosen], reduction="sum").backward()
        optimiser.step()
    wrapped.remove_hooks()
    return len(taken)
