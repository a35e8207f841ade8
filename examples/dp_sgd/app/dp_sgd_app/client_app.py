"""What a member's node does with the model of a round, under the numbers that the job's manifest states."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from dp_sgd_app.task import Net, load_scans, train

app = ClientApp()


@app.train()
def train_on_scans(message: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    scans, labels = load_scans(str(context.node_config["data-path"]))
    config = message.content["config"]
    train(
        model,
        scans,
        labels,
        steps=int(config["local-steps"]),
        rate=float(config["privacy-sample-rate"]),
        clip=float(config["privacy-record-clip"]),
        multiplier=float(config["privacy-noise-multiplier"]),
        pace=float(context.run_config["learning-rate"]),
    )
    # The example count is public to within a factor of two already; nothing else of the data leaves.
    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)
