"""What a centre's node does with the model of a round."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from heart_app.task import Regression, judge, load_rows, train

app = ClientApp()


@app.train()
def train_on_rows(message: Message, context: Context) -> Message:
    model = Regression()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    features, labels = load_rows(str(context.node_config["data-path"]), "train")
    config, asked = context.run_config, message.content["config"]
    loss = train(
        model,
        features,
        labels,
        steps=int(config["local-steps"]),
        batch=int(config["batch-size"]),
        rate=float(config["learning-rate"]),
        seed=int(config["seed"]) + 1000 * int(asked["server-round"]) + 100 * int(context.node_config["partition-id"]),
        proximal=float(asked.get("proximal-mu", 0.0)),
    )
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(labels)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def judge_on_rows(message: Message, context: Context) -> Message:
    model = Regression()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    features, labels = load_rows(str(context.node_config["data-path"]), "test")
    loss, accuracy = judge(model, features, labels)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
