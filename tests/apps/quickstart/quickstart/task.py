"""Arrays of several kinds and shapes."""

import numpy as np


def initial_arrays(run_config):
    width = int(run_config["model.width"])
    return {
        "layers.0.weight": np.zeros((2, width), dtype=np.float32),
        "layers.0.bias": np.zeros(width, dtype=np.float64),
        "norm.num_batches_tracked": np.zeros((), dtype=np.int64),
        "norm.mask": np.ones(width, dtype=np.bool_),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "scale": np.ones((), dtype=np.float16),
    }
