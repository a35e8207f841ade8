"""For Flower's own runtime and simulator. Concord does not run a ServerApp: the job's strategy is the outer step."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from heart_app.task import Regression

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=1.0)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Regression().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
    )
