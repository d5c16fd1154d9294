"""The source of the served clusters, and the check for new ones."""

import os
from dataclasses import dataclass
from pathlib import Path

from ccscale.checkpoint.layout import FOLDER, steps
from ccscale.checkpoint.marker import MARKER
from ccscale.clusters.lineage import CURRENT, clusters_of, is_living, open_lineage
from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import FILE as NAMES
from ccscale.evaluate.opened_run import open_run
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.reliability import FILE as SURENESS
from ccscale.model.export import CONFIG, WEIGHTS
from ccscale.serve.answer import Answerer
from ccscale.serve.checkpoint_clusters import CheckpointClusters
from ccscale.serve.living_clusters import LivingClusters

State = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class ClusterSource:
    """Loads the served clusters.

    Attributes
    ----------
    run
        The run's folder, or an exported network's.
    device, checkpoint, clusters, reject
        As for `predict.predict_run` and `predict.PredictOptions`.
    """

    run: Path
    device: str = "auto"
    checkpoint: str = "last"
    clusters: int | None = None
    reject: Reject | None = None

    def open(self) -> Answerer:
        """Load the current version.

        Raises
        ------
        InputError
            If there is nothing that can be loaded, or living clusters lack what is requested.
        """
        if is_living(self.run):
            if (self.checkpoint, self.clusters, self.reject) != ("last", None, None):
                raise InputError(
                    f"the clusters of {self.run} live, and leave images without one by themselves: leave out "
                    "--checkpoint, --clusters and --reject, or serve an export (`ccscale export`)"
                )
            return LivingClusters(open_lineage(self.run), pick_device(self.device, 0))
        with open_run(
            self.run, self.device, 0, self.checkpoint, exports=True, clusters=self.clusters
        ) as opened:
            return CheckpointClusters(opened, self.reject)

    def state(self) -> State:
        """Return a value that changes when there is a new version; it reads no file."""
        if is_living(self.run):  # which go by no checkpoint
            return tuple(_stamp(clusters_of(self.run) / name) for name in (CURRENT, NAMES))
        newest = next((path for path in steps(self.run / FOLDER) if (path / MARKER).exists()), self.run)
        beside = [self.run / name for name in (SURENESS, NAMES, CONFIG, WEIGHTS)]
        return tuple(_stamp(path) for path in (newest / MARKER, *beside))


def _stamp(path: Path) -> tuple[str, int, int, int]:
    """Return values that identify a file and change when it is replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), found.st_ino, found.st_mtime_ns, found.st_size)
