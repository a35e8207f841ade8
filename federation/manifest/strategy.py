"""The outer step's name and parameters as a job states them. Defaults are Flower's own (flwr.serverapp.strategy, 1.41)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DEFAULTS: Final[dict[str, dict[str, float | bool]]] = {
    "FedAvg": {},
    "FedProx": {"proximalMu": 0.0},
    "FedAvgM": {"serverLearningRate": 1.0, "serverMomentum": 0.0},
    "FedAdam": {"eta": 0.1, "etaL": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3, "biasCorrection": True},
    "FedYogi": {"eta": 0.01, "etaL": 0.0316, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
    "FedAdagrad": {"eta": 0.1, "etaL": 0.1, "tau": 1e-3},
}


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """``parameters`` are complete: every default is filled in. Names are those of the job document (camelCase)."""

    name: str
    parameters: Mapping[str, float | bool]
