"""What a member's node does with the model of a round."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_app.task import Net, judge, load_scans, train

app = ClientApp()


@app.train()
def train_on_scans(message: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    scans, labels = load_scans(str(context.node_config["data-path"]))
    config = context.run_config
    round_number = int(message.content["config"]["server-round"])
    loss = train(
        model,
        scans,
        labels,
        steps=int(config["local-steps"]),
        batch=int(config["batch-size"]),
        rate=float(config["learning-rate"]),
        calibration=float(config["calibration"]),
        seed=int(config["seed"]) + 1000 * round_number + int(context.node_config["partition-id"]),
    )
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(labels)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def judge_on_scans(message: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    scans, labels = load_scans(str(context.node_config["data-path"]))
    loss, accuracy = judge(model, scans, labels)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
