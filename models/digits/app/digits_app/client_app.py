"""What a member's node does with the model of a round."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_app.task import Net, judge, judge_by_groups, load_scans, train, with_canaries

app = ClientApp()


def canary_seed(context: Context) -> int:
    """Each lab has canaries of its own, the same in every round."""
    return int(context.run_config["seed"]) + int(context.node_config["partition-id"])


@app.train()
def train_on_scans(message: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    scans, labels = load_scans(str(context.node_config["data-path"]))
    examples = len(labels)
    config = context.run_config
    scans, labels = with_canaries(scans, labels, int(config["canaries"]), canary_seed(context))
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
    metrics = MetricRecord({"train_loss": loss, "num-examples": examples})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def judge_on_scans(message: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    scans, labels = load_scans(str(context.node_config["data-path"]))
    loss, accuracy = judge(model, scans, labels)
    gated = judge_by_groups(model, scans, labels, int(context.run_config["canaries"]), canary_seed(context))
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(labels), **gated})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
