"""The trackers that a config asks for."""

import os
from importlib.util import find_spec
from types import TracebackType

from ccscale.checkpoint.run import flat
from ccscale.config import Config
from ccscale.errors import InputError
from ccscale.train.trackers.mlflow_run import MlflowRun
from ccscale.train.trackers.sending import Sending
from ccscale.train.trackers.tracker import End, Tracker
from ccscale.train.trackers.wandb_run import WandbRun


def check_trackers(config: Config) -> None:
    """Refuse a tracker whose package is not installed.

    Raises
    ------
    InputError
        With the extra that brings it.
    """
    for name in ("wandb", "mlflow"):
        if getattr(config.log, name) is not None and not _is_installed(name):
            raise InputError(
                f"log.{name} needs the package {name}: run `pip install 'ccscale[{name}]'`, or leave it out"
            )
    server = os.environ.get("MLFLOW_TRACKING_URI")
    if config.log.mlflow is not None and not server and not _is_installed("sqlalchemy"):
        raise InputError(
            "log.mlflow does not know its server: set the variable MLFLOW_TRACKING_URI, as http://HOST:5000 (a "
            "file of its own needs the whole of MLflow: `pip install mlflow`)"
        )


def _is_installed(name: str) -> bool:
    """Return whether a package is there; a folder of that name, as W&B leaves them, is none."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


class Trackers:
    """Sends a run's log to its trackers, from rank 0; it ends last, when all else of the run is safe.

    Attributes
    ----------
    end
        How the run has ended, unless by an error.
    """

    def __init__(self, config: Config, write: bool) -> None:
        folder, log = config.run_folder, config.log
        name = log.name or folder.resolve().name
        trackers = list[Tracker]()
        if write and log.wandb is not None:
            trackers.append(WandbRun(log.wandb, name, folder, config.model_dump(mode="json")))
        if write and log.mlflow is not None:
            trackers.append(MlflowRun(log.mlflow, name, flat(config)))
        self._sendings = [Sending(folder, tracker) for tracker in trackers]
        self.end: End = "stopped"

    def tell(self) -> None:
        """Record that the log has new lines."""
        for sending in self._sendings:
            sending.tell()

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sending in self._sendings:
            sending.close(self.end if kind is None else "failed")
