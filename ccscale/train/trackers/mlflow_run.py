"""A run in an experiment of MLflow, on the server that its own MLFLOW_TRACKING_URI names."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ccscale.train.trackers.tracker import AGAIN, End, Line, Sent, figures

SENT = "ccscale.sent"  # a tag: it comes with the figures, and is believed before this side's notes
MOST = 1000  # figures that a server takes at a time
STATUS: Mapping[End, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
OWN = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nobody has asked for it
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # it is tried again here, and told after a minute instead of ten
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class MlflowRun:
    """See `tracker.Tracker`."""

    title = "MLflow"
    file = "mlflow.json"
    remedy = AGAIN

    def __init__(self, experiment: str, name: str, settings: Mapping[str, Any]) -> None:
        for variable, value in OWN.items():
            os.environ.setdefault(variable, value)
        self._experiment, self._name, self._settings = experiment, name, settings
        self.place = f"{os.environ.get('MLFLOW_TRACKING_URI', '')} {experiment}"

    def open(self, run: str | None, sent: Sent) -> tuple[str, Sent]:
        """Continue the existing run, or start one."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._client = client = MlflowClient()
        found = None
        if run is not None:
            try:
                found = client.get_run(run)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        if found is None or found.info.lifecycle_stage == "deleted":
            experiment = client.get_experiment_by_name(self._experiment)
            number = (
                client.create_experiment(self._experiment) if experiment is None else experiment.experiment_id
            )
            found = client.create_run(number, run_name=self._name)
        else:
            client.update_run(found.info.run_id, status="RUNNING")
        self._run = found.info.run_id
        self._params: Mapping[str, str] | None = found.data.params
        self._sent: Sent = json.loads(found.data.tags.get(SENT, "{}"))
        return self._run, self._sent

    def _tell_settings(self, there: Mapping[str, str]) -> None:
        """Send the parts of the config that are not `there`; the run's id is already recorded on this side."""
        from mlflow.entities import Param, RunTag

        said = {
            key: json.dumps(value) if isinstance(value, list) else str(value)
            for key, value in self._settings.items()
        }
        new = [Param(key, value) for key, value in said.items() if key not in there]
        # A parameter never changes there: what is another one by now becomes a tag.
        changed = [RunTag(key, value) for key, value in said.items() if there.get(key, value) != value]
        for start in range(0, len(new), 100):
            self._client.log_batch(self._run, params=new[start : start + 100])
        self._client.log_batch(self._run, tags=changed)

    def add(self, lines: Sequence[Line], sent: Sent) -> None:
        """Send figures, as many lines at a time as a server accepts, and the progress each time."""
        from mlflow.entities import Metric, RunTag

        if self._params is not None:
            self._tell_settings(self._params)
            self._params = None
        lines = [line for line in lines if line["step"] > self._sent.get(line["kind"], -1)]  # tried again
        now, metrics = self._sent, list[Metric]()
        for place, line in enumerate(lines):
            metrics += [
                Metric(name, float(value), round(line["time"] * 1000), line["step"])
                for name, value in figures(line).items()
            ]
            now = now | {line["kind"]: line["step"]}
            if place + 1 == len(lines) or len(metrics) + len(figures(lines[place + 1])) > MOST:
                self._client.log_batch(self._run, metrics, tags=[RunTag(SENT, json.dumps(now))])
                self._sent, metrics = now, []

    def close(self, end: End) -> None:
        """Report how it ended."""
        self._client.set_terminated(self._run, STATUS[end])
