"""Flower ClientApp of the smallest app."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tiny.task import loss, step

app = ClientApp()


def _figures(context: Context):
    return int(context.node_config["partition-id"]), int(context.run_config["examples"])


@app.train()
def train(message: Message, context: Context) -> Message:
    partition_id, examples = _figures(context)
    names = list(message.content["arrays"])
    arrays = [array.numpy() for array in message.content["arrays"].values()]
    round_ = int(message.content["config"]["server-round"])
    trained = [step(array, partition_id, round_, context.run_config["rate"]) for array in arrays]
    record = ArrayRecord(trained)
    reply = ArrayRecord({name: array for name, array in zip(names, record.values(), strict=True)})
    metrics = MetricRecord({"train_loss": loss(arrays[0], partition_id), "num-examples": examples})
    return Message(RecordDict({"arrays": reply, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    partition_id, examples = _figures(context)
    vector = next(iter(message.content["arrays"].values())).numpy()
    metrics = MetricRecord({"eval_loss": loss(vector, partition_id), "num-examples": examples})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
