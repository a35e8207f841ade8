"""What a job sees of a node's GPUs from inside, as figures."""

import os
import time
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
DEVICE = torch.device(os.environ["CONCORD_DEVICE"])


def first_model(run_config):
    return {"weights": np.zeros(8, dtype=np.float32)}


def rate(width, seconds, gigabytes):
    """Multiply-adds a second, twice; in bfloat16, on random data."""
    held = torch.empty(int(gigabytes * (1 << 30)), dtype=torch.uint8, device=DEVICE)
    left, right = (torch.randn(width, width, device=DEVICE).bfloat16() for _ in range(2))
    left @ right
    _ended()
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds or not count:
        for _ in range(20):
            left @ right
        _ended()
        count += 20
    passed = time.monotonic() - began
    del held
    return 2 * count * width**3 / passed


def _ended():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@app.train()
def train(message, context):
    config = context.run_config
    cards = torch.cuda.device_count()
    figures = {
        "num-examples": 100,
        "on_gpu": float(DEVICE.type == "cuda"),
        "cards": float(cards),
        "files": float(len(list(Path("/dev").glob("nvidia[0-9]*")))),
        "teraflops": 1e-12 * rate(int(config["width"]), float(config["seconds"]), float(config["gigabytes"])),
    }
    weights = message.content["arrays"]["weights"].numpy() + np.float32(1)
    arrays = ArrayRecord({"weights": Array(weights)})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(figures)}), reply_to=message)
