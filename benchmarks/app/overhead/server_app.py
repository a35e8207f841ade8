"""ServerApp for Flower's SuperLink: FedAvg that notes when each round begins and ends. Concord does not run it."""

import json
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from overhead.task import initial_arrays

app = ServerApp()


class TimedFedAvg(FedAvg):
    """FedAvg with its defaults: every node trains, then every node evaluates the new model."""

    def __init__(self, times: Path) -> None:
        super().__init__(min_available_nodes=3)
        self.times = times

    def note(self, event, server_round):
        with self.times.open("a") as file:
            file.write(json.dumps({"event": event, "round": server_round, "at": time.time()}) + "\n")

    def configure_train(self, server_round, arrays, config, grid):
        self.note("begin", server_round)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        self.note("trained", server_round)
        return result

    def aggregate_evaluate(self, server_round, replies):
        result = super().aggregate_evaluate(server_round, replies)
        self.note("end", server_round)
        return result


@app.main()
def main(grid: Grid, context: Context) -> None:
    arrays = ArrayRecord({name: Array(array) for name, array in initial_arrays(context.run_config).items()})
    strategy = TimedFedAvg(Path(str(context.run_config["times"])))
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]))
