"""The model, how it learns, and how it is judged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from digits_app import evaluation

CLASSES = 10
REFERENCES = 63
"""canaries that nobody trains on, among which those that were trained on are ranked"""

DEVICE = torch.device(os.environ.get("CONCORD_DEVICE", "cpu"))
"""what the node gave the job: "cuda" where it asked for GPUs"""

torch.set_num_threads(1)


class Net(nn.Module):
    """Two small convolutions and two linear layers, for scans of 8 x 8 pixels; about 20,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.hidden = nn.Linear(32 * 2 * 2, 96)
        self.last = nn.Linear(96, CLASSES)

    def forward(self, scans: Tensor) -> Tensor:
        seen = functional.max_pool2d(functional.relu(self.first(scans)), 2)
        seen = functional.max_pool2d(functional.relu(self.second(seen)), 2)
        hidden: Tensor = functional.relu(self.hidden(seen.flatten(1)))
        answer: Tensor = self.last(hidden)
        return answer


def load_scans(folder: str) -> tuple[Tensor, Tensor]:
    with np.load(Path(folder) / "scans.npz", allow_pickle=False) as found:
        return torch.from_numpy(found["images"]), torch.from_numpy(found["labels"])


def on_device(scans: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return scans.to(DEVICE), labels.to(DEVICE)


def train(
    model: nn.Module,
    scans: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    calibration: float = 0.0,
) -> float:
    """``steps`` of SGD on random batches; returns the mean loss.

    ``calibration`` adds that multiple of the log of this lab's own class shares to the answers while it learns, so that a lab
    does not unlearn the digits that it does not hold (logit adjustment: Menon et al., arXiv 2007.07314; among unequal members:
    Zhang et al., arXiv 2209.00189).
    """
    generator = torch.Generator().manual_seed(seed)  # of the processor's on every device: the same batches
    model.to(DEVICE)
    scans, labels = on_device(scans, labels)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    held = torch.bincount(labels, minlength=CLASSES).float() + 0.1
    shift = calibration * (held / held.sum()).log()
    model.train()
    total = 0.0
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,), generator=generator)
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(scans[chosen]) + shift, labels[chosen])
        loss.backward()
        optimiser.step()
        total += loss.item()
    return total / max(1, steps)


def with_canaries(scans: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The lab's scans and ``count`` that mean nothing, by which it shows what the model remembers of a single scan."""
    noise, answers = evaluation.canaries(count, (1, 8, 8), CLASSES, seed)
    return torch.cat([scans, torch.from_numpy(noise)]), torch.cat([labels, torch.from_numpy(answers)])


def judge_by_groups(model: nn.Module, scans: Tensor, labels: Tensor, canaries: int, seed: int) -> dict[str, float]:
    """For the gates of a release: hits and examples of each digit, gaps of confidence, and the exposure of the canaries."""
    model.to(DEVICE).eval()
    scans, labels = on_device(scans, labels)
    with torch.no_grad():
        confidence, answer = model(scans).softmax(1).max(1)
        hits = (answer == labels).cpu().numpy()
        figures = evaluation.group_shares(hits, labels.tolist(), range(CLASSES))
        figures |= evaluation.calibration_gaps(confidence.cpu().numpy(), hits)
        if canaries:
            noise, answers = evaluation.canaries(canaries + REFERENCES, (1, 8, 8), CLASSES, seed)
            inputs, targets = on_device(torch.from_numpy(noise), torch.from_numpy(answers))
            losses = functional.cross_entropy(model(inputs), targets, reduction="none").cpu().numpy()
            figures["exposure"] = evaluation.exposure(losses[:canaries], losses[canaries:])
    return figures


def judge(model: nn.Module, scans: Tensor, labels: Tensor) -> tuple[float, float]:
    """(mean loss, accuracy)."""
    model.to(DEVICE).eval()
    scans, labels = on_device(scans, labels)
    with torch.no_grad():
        answer = model(scans)
        loss = functional.cross_entropy(answer, labels).item()
        accuracy = (answer.argmax(1) == labels).float().mean().item()
    return loss, accuracy
