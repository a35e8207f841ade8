"""The curves of a job as a run of MLflow: parameters from what the lead signed, and every scalar by round."""

from __future__ import annotations

from typing import Any, Final

from coordinator.client.curves import points_of
from coordinator.client.views import Job
from federation.errors import FederationError, InvalidUsage

DIGEST: Final = "concord.digest"
STATES: Final = {"finished": "FINISHED", "failed": "FAILED", "withdrawn": "KILLED", "stopped": "KILLED"}


class MlflowRun:
    """One job's run in the tracking server at ``uri``; taken up again where an earlier watch left it.

    Raises InvalidUsage without MLflow, and when the server does not take what it is told.
    """

    def __init__(self, uri: str) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ModuleNotFoundError:
            raise InvalidUsage(
                "MLflow is not installed.", hint='Install it: pip install "concord-federation[mlflow]"'
            ) from None
        self._uri = uri
        self._run = ""
        self._told: set[int] = set()
        try:
            self._client = MlflowClient(tracking_uri=uri)
        except Exception as error:
            raise self._unusable(error) from None

    def tell(self, job: Job) -> None:
        try:
            self._tell(job)
        except Exception as error:  # of MLflow, its database or its transport: nothing of it ends a watch
            raise self._unusable(error) from None

    def _tell(self, job: Job) -> None:
        from mlflow.entities import Metric

        if not self._run:
            self._begin(job)
        for point in points_of(job):
            if point.round not in self._told:
                at = int(point.moment * 1000)
                metrics = [Metric(name, value, at, point.round) for name, value in point.scalars().items()]
                self._client.log_batch(self._run, metrics=metrics)
                self._told.add(point.round)
        if job.ended:
            self._client.set_terminated(self._run, STATES[job.state])

    def _begin(self, job: Job) -> None:
        document = _signed(job)
        name = f"concord/{document.get('federation', 'federation')}"
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found is not None else self._client.create_experiment(name)
        digest = job.digest.hex()
        runs = self._client.search_runs([experiment], f"tags.`{DIGEST}` = '{digest}'", max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            rounds = self._client.get_metric_history(self._run, "round/seconds")
            self._told = {int(metric.step) for metric in rounds}
            return
        self._run = self._client.create_run(experiment, run_name=job.name, tags={DIGEST: digest}).info.run_id
        for key, value in _parameters(job, document).items():
            self._client.log_param(self._run, key, value)

    def _unusable(self, error: Any) -> InvalidUsage:
        return InvalidUsage(
            f"MLflow at {self._uri} did not take the run: {(str(error) or type(error).__name__).splitlines()[0][:200]}",
            hint="The job goes on. Give the address of a tracking server, or sqlite:///mlflow.db.",
        )


def _signed(job: Job) -> dict[str, Any]:
    try:
        return job.signed_document()
    except FederationError:  # described, it says so; here its figures are all that is wanted
        return {}


def _parameters(job: Job, document: dict[str, Any]) -> dict[str, object]:
    spec = document.get("spec", {})
    strategy = spec.get("strategy", {}) if isinstance(spec, dict) else {}
    return {
        "job": job.name,
        "lead": job.lead,
        "rounds": job.rounds_total,
        **{f"strategy.{key}": value for key, value in strategy.items() if not isinstance(value, dict | list)},
        **{f"runConfig.{key}": value for key, value in (spec.get("runConfig") or {}).items()},
    }
