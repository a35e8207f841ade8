"""One array; every node adds a small number of its own to it."""

import numpy as np


def initial_arrays(run_config):
    return {"vector": np.zeros(int(run_config["parameters"]), dtype=np.float32)}
