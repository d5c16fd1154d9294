"""The clusters of a run or an exported network, as ``ccscale predict`` gives them; and what tells of new ones."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.checkpoint.layout import FOLDER, steps
from ccscale.checkpoint.marker import MARKER
from ccscale.data.whole_images import WholeBatch
from ccscale.evaluate.assign import assign_batch
from ccscale.evaluate.basis import weights_of
from ccscale.evaluate.cluster_names import FILE as NAMES
from ccscale.evaluate.known import Known
from ccscale.evaluate.opened import OpenedRun, open_run
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.sureness import FILE as SURENESS
from ccscale.model.export import CONFIG, WEIGHTS
from ccscale.serve.answer import Answer

State = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Source:
    """Where clusters come from.

    Attributes
    ----------
    run
        The run's folder, or an exported network's.
    device, checkpoint, clusters, reject
        As of `predict.predict_run` and `predict.Wanted`.
    """

    run: Path
    device: str = "auto"
    checkpoint: str = "last"
    clusters: int | None = None
    reject: Reject | None = None

    def open(self) -> "RunClusters":
        """Load what is there.

        Raises
        ------
        InputError
            If there is nothing that can be loaded.
        """
        with open_run(
            self.run, self.device, 0, self.checkpoint, exports=True, clusters=self.clusters
        ) as opened:
            return RunClusters(opened, self.reject)

    def state(self) -> State:
        """Return what differs once there is something new to load; it reads no file."""
        newest = next((path for path in steps(self.run / FOLDER) if (path / MARKER).exists()), self.run)
        beside = [self.run / name for name in (SURENESS, NAMES, CONFIG, WEIGHTS)]
        return tuple(_stamp(path) for path in (newest / MARKER, *beside))


def _stamp(path: Path) -> tuple[str, int, int, int]:
    """Return what tells a file from one that has taken its place."""
    try:
        found = os.stat(path)
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), found.st_ino, found.st_mtime_ns, found.st_size)


class RunClusters:
    """The clusters of a checkpoint; see `answer.Answerer`."""

    def __init__(self, opened: OpenedRun, reject: Reject | None) -> None:
        self.version = f"step-{opened.checkpoint.step:08d}"
        self.clusters = opened.network.k
        self.size = opened.network.size
        self.scaled_decode = opened.config.views.scaled_decode
        self._network = opened.network
        self._known = Known.of(opened, weights_of(opened.checkpoint), reject)

    def answer(self, images: NDArray[np.uint8]) -> list[Answer]:
        """Return the answers to images (n, size, size, 3), RGB."""
        n = len(images)
        unknown, good = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
        batch = WholeBatch(torch.from_numpy(images), unknown, ("",) * n, unknown, good, ())
        assigned = self._known.tell(assign_batch(self._network, batch))
        calibrated, names, reasons = assigned.calibrated, assigned.names, assigned.reasons
        return [
            Answer(
                id=int(assigned.clusters[i]),
                name=None if names is None else names[i],
                confidence=float(assigned.confidence[i]),
                calibrated=None if calibrated is None else float(calibrated[i]),
                reason=None if reasons is None else reasons[i],
                version=self.version,
            )
            for i in range(n)
        ]
