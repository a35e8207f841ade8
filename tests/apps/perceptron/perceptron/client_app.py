"""Flower ClientApp of the small torch app."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from perceptron.task import Net, fit, load, score

app = ClientApp()


def _prepare(message: Message, context: Context):
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model, load(int(context.node_config["partition-id"]))


@app.train()
def train(message: Message, context: Context) -> Message:
    model, data = _prepare(message, context)
    seed = int(context.run_config.get("seed", 7))
    loss = fit(model, data, seed, int(message.content["config"]["server-round"]))
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(data)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    model, data = _prepare(message, context)
    loss, accuracy = score(model, data)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(data)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
