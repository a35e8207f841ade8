"""Which declared figures are losses and which are accuracies, by the words of their names."""

from __future__ import annotations

import re


def is_loss(name: str) -> bool:
    """By its words: "train/mse_loss" is one, "evaluate/glossary" is none."""
    return any(word.endswith(("loss", "losses")) for word in _words(name))


def is_accuracy(name: str) -> bool:
    """By its words: "evaluate/eval_acc" is one, "train/acceleration" is none."""
    return any(word == "acc" or word.startswith("accurac") or word.endswith("accuracy") for word in _words(name))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())
