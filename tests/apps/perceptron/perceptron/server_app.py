"""Flower ServerApp of the small torch app, for Flower's own simulator; Concord does not run it."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from perceptron.task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    FedAvg().start(grid=grid, initial_arrays=ArrayRecord(Net().state_dict()), num_rounds=3)
