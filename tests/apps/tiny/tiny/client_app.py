"""Flower ClientApp of the smallest app."""

import time

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tiny.task import loss, step

app = ClientApp()


def _figures(context: Context):
    return int(context.node_config["partition-id"]), int(context.run_config["examples"])


@app.train()
def train(message: Message, context: Context) -> Message:
    partition_id, examples = _figures(context)
    arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
    round_ = int(message.content["config"]["server-round"])
    rate = context.run_config["rate"]
    time.sleep(context.run_config["pause"])
    figures = {"train_loss": loss(arrays["vector"], partition_id), "rows": examples, "num-examples": examples}
    metrics = MetricRecord(figures)
    arrays["vector"] = step(arrays["vector"], partition_id, round_, rate)
    reply = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    return Message(RecordDict({"arrays": reply, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    partition_id, examples = _figures(context)
    vector = message.content["arrays"]["vector"].numpy()
    metrics = MetricRecord({"eval_loss": loss(vector, partition_id), "num-examples": examples})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
