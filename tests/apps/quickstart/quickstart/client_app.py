"""Adds the learning rate of the message to every fraction; what it was given, and of what type, stands in the log."""

import json
import logging
import tempfile
from logging import INFO
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.logger import log

logger = logging.getLogger(__name__)
app = ClientApp()


def _note(kind, message, context):
    given = {"run": context.run_config, "node": context.node_config, "message": message.content["config"]}
    print("GIVEN", kind, json.dumps({name: dict(values) for name, values in given.items()}), flush=True)


def _step(array, rate):
    if array.dtype.kind != "f":
        return np.asarray(array + 1) if array.dtype.kind == "i" else np.logical_not(array)
    return np.asarray(array + rate, dtype=array.dtype)


@app.train()
def train(message: Message, context: Context) -> Message:
    _note("train", message, context)
    called = context.state["notes"]["calls"] + 1 if "notes" in context.state else 1
    context.state["notes"] = ConfigRecord({"calls": called})
    log(INFO, "round %s, call %s", message.content["config"]["server-round"], called)
    logger.warning("a warning of the app's own")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "checkpoint").write_bytes(bytes(1000))
    Path("beside.txt").write_text("the working folder is the task's own")
    examples = len(Path(context.node_config["data-path"], "numbers.txt").read_text().split())
    rate = message.content["config"]["lr"]
    model = ArrayRecord({name: Array(_step(each.numpy(), rate)) for name, each in message.content["arrays"].items()})
    metrics = MetricRecord({"train_loss": 1.0 / called, "num-examples": examples, "per-class": [0.5, 0.25]})
    return Message(content=RecordDict({"model": model, "train_metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    _note("evaluate", message, context)
    bias = message.content["arrays"]["layers.0.bias"].numpy()
    metrics = MetricRecord({"eval_loss": float(1 - bias.mean()), "num-examples": 3})
    return Message(content=RecordDict({"eval_metrics": metrics}), reply_to=message)
