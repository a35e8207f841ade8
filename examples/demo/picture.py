"""The curves as a PNG: accuracy and loss of the joint model per round, against every member alone and pooled training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from coordinator.client.panels import BLUE, GREEN, GREY, VERMILION
from coordinator.client.views import Round


def draw(
    path: Path,
    rounds: Sequence[Round],
    alone: Mapping[str, float],
    joint: float,
    pooled: float,
    lost: Mapping[int, str],
) -> None:
    """Writes the picture to ``path``. ``lost``: member by the round in which it was killed."""
    closed = [item for item in rounds if item.phase == "closed"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    # A round evaluates the model that it starts from, so round r shows what r-1 rounds of training gave.
    trained = [item.round - 1 for item in closed]
    left.plot(
        trained,
        [item.accuracy for item in closed],
        marker="o",
        color=BLUE,
        label="joint, on the members' own scans",
    )
    left.axhline(pooled, color=GREEN, linestyle="--", label=f"pooled, held-out scans: {pooled:.1%}")
    left.axhline(joint, color=BLUE, linestyle=":", label=f"joint, held-out scans: {joint:.1%}")
    for index, (member, value) in enumerate(sorted(alone.items(), key=lambda pair: pair[1])):
        left.axhline(
            value, color=VERMILION, linewidth=0.8, alpha=0.7, label="each member alone" if index == 0 else None
        )
        left.annotate(
            member, (trained[-1] if trained else 1, value), fontsize=8, color=VERMILION, va="bottom", ha="right"
        )
    left.set(xlabel="rounds of training", ylabel="accuracy", ylim=(0, 1.02), title="Accuracy")
    left.legend(fontsize=8, loc="lower right")
    right.plot(trained, [item.loss for item in closed], marker="o", color=BLUE)
    right.set(xlabel="rounds of training", ylabel="loss", title="Loss of the joint model, from certified sums")
    for round_number, member in lost.items():
        for axis in (left, right):
            axis.axvline(round_number - 1, color=GREY, linewidth=0.8)
        right.annotate(
            f"{member} killed", (round_number - 1, right.get_ylim()[1]), fontsize=8, rotation=90, va="top", ha="right"
        )
    figure.savefig(path, dpi=130)
    plt.close(figure)
