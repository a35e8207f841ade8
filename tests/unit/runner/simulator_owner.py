"""Runs one app in Flower's own simulator (ray), one client: what the worker's replies are compared with.

    python simulator_owner.py BUNDLE MODEL OUT

Writes the trained arrays to OUT and prints the figures of train and evaluate as JSON on the last line of stdout.
"""

import json
import sys
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation

from federation.weights.tensors import read_arrays
from node_agent.runner.tensors import write_new


def client_app(bundle: Path) -> ClientApp:
    sys.path.insert(0, str(bundle))
    from perceptron.client_app import app

    return app


def main(bundle: Path, model: Path, out: Path) -> None:
    server = ServerApp()
    figures = {}

    @server.main()
    def run(grid, context):
        while not (nodes := list(grid.get_node_ids())):
            time.sleep(0.05)
        (node,) = nodes
        arrays = ArrayRecord({name: Array(array) for name, array in read_arrays(model).items()})
        for kind in ("evaluate", "train"):
            content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
            (reply,) = grid.send_and_receive([Message(content, node, kind, group_id="1")])
            figures[kind] = dict(reply.content["metrics"])
        write_new(out, {name: array.numpy() for name, array in reply.content["arrays"].items()})

    backend = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": 1, "log_to_driver": False},
    }
    run_simulation(server_app=server, client_app=client_app(bundle), num_supernodes=1, backend_config=backend)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
