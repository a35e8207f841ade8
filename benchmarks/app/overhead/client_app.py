"""ClientApp, run by Flower's SuperNodes and by Concord's nodes alike."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    change = np.float32((int(context.node_config["partition-id"]) + 1) / 1024)
    arrays = {name: Array(array.numpy() + change) for name, array in message.content["arrays"].items()}
    metrics = MetricRecord({"train_loss": 0.0, "num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, _context: Context) -> Message:
    metrics = MetricRecord({"eval_loss": 0.0, "num-examples": 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
