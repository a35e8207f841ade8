"""Each node pulls a vector towards its own target, partition-id + 1: the joint optimum is the mean of the targets."""

import numpy as np


def initial_arrays(run_config):
    """``mark`` follows from the job's seed and stays: models of jobs with other seeds are other models."""
    return {
        "vector": np.zeros(int(run_config["size"]), dtype=np.float32),
        "mark": np.random.randint(2**31, size=1, dtype=np.int64),
    }


def target(partition_id):
    return np.float32(partition_id + 1)


def step(vector, partition_id, server_round, rate):
    """One pull of ``rate``, and a step of round / 1024 that makes each round's update differ from the last."""
    pull = (target(partition_id) - vector) * np.float32(rate)
    return (vector + pull + np.float32(server_round / 1024)).astype(np.float32)


def loss(vector, partition_id):
    return float(np.mean((vector - target(partition_id)) ** 2, dtype=np.float64))
