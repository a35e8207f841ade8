"""Flower ServerApp, for Flower's own simulator; Concord does not run it."""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from dp_sgd_app.task import Net

app = ServerApp()

NUMBERS = {
    "local-steps": 20,
    "privacy-sample-rate": 0.05,
    "privacy-record-clip": 1.0,
    "privacy-noise-multiplier": 1.0,
}
"""what a node takes from the job's manifest"""


@app.main()
def main(grid: Grid, context: Context) -> None:
    FedAvg(fraction_evaluate=0.0).start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        train_config=ConfigRecord(NUMBERS),
    )
