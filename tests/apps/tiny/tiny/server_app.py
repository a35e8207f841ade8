"""Flower ServerApp of the smallest app, for Flower's own simulator; Concord does not run it."""

from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tiny.task import initial_arrays

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    arrays = ArrayRecord({name: Array(array) for name, array in initial_arrays(context.run_config).items()})
    FedAvg().start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["num-server-rounds"]))
