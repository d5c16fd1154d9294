"""Estimates the cost of k-means over a store: measures one pass over some vectors and extrapolates."""

import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ccscale.errors import InputError
from ccscale.features.kmeans import Work, first_centres, work_of
from ccscale.features.lloyd import Blocks, lloyd, scale_of
from ccscale.features.vectors import BLOCK, Vectors
from ccscale.plan.probe import measured, seconds_of

ROWS = 2 * BLOCK  # that the passes are tried on
FEW = 8  # of this many clusters one is tried where centres are chosen
RESULT = 24  # bytes of a row in what is told of it: cluster and distance, on the way and joined


@dataclass(frozen=True)
class KMeansCost:
    """Estimated cost of k-means.

    Attributes
    ----------
    work
        What it does, at most.
    passes
        How many each start is reckoned to make: where all rows are gone over, as many as it took with some of them.
    seconds
        How long it takes.
    bytes
        What the process holds for itself, at most.
    """

    work: Work
    passes: int
    seconds: float
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            **asdict(self.work),
            "reckoned_passes": self.passes,
            "seconds": self.seconds,
            "bytes": self.bytes,
        }


def k_means_cost(vectors: Vectors, clusters: int, spherical: bool, device: torch.device) -> KMeansCost:
    """Estimate the cost of `k_means` on these vectors.

    Raises
    ------
    InputError
        If there are fewer vectors than clusters.
    """
    rows, width = len(vectors), vectors.width
    if not 1 <= clusters <= rows:
        raise InputError(f"{rows:,} images are too few for {clusters:,} clusters: use fewer")
    if spherical:
        vectors = vectors.scaled()
    work = work_of(rows, width, clusters)
    some = vectors.subset(np.linspace(0, rows - 1, min(rows, ROWS)).astype(np.int64))
    centres = some.take(np.arange(clusters) % len(some)).to(device)

    def probe() -> tuple[float, int]:
        read = seconds_of(lambda: deque(Blocks(some, device, keep=False), maxlen=0))  # none is kept twice
        blocks = Blocks(some, device, keep=True)
        scale = scale_of(blocks, rows)
        look = seconds_of(lambda: scale_of(blocks, rows))
        a_pass = seconds_of(lambda: lloyd(blocks, centres, scale, spherical, 1))
        passes = work.sample_passes
        if not work.passes:
            passes = lloyd(blocks, centres, scale, spherical, passes).passes
        of_sample, of_all = work.sample / len(some), rows / len(some)
        start = _choosing(some, clusters, work.first_rows) + of_sample * passes * a_pass
        total = of_sample * (read + look) + work.starts * start
        if not work.passes:
            return total + of_all * a_pass, passes  # all are assigned
        return total + of_all * (read + look + (work.passes + 1) * (read + a_pass)), passes

    (seconds, passes), cost = measured(probe)
    kept = 4 * width * max(0, work.sample - len(some))  # beside those of the probe
    return KMeansCost(work, passes, seconds, cost.bytes + kept + RESULT * rows)


def _choosing(some: Vectors, clusters: int, rows: int) -> float:
    """Return how long it takes to choose the first centres among so many rows, by choosing some of them."""
    few = max(2, clusters // FEW)
    looked_at = min(rows, len(some))
    seconds = seconds_of(lambda: first_centres(some, min(few, looked_at), (0, 0), looked_at), 1)
    trials = (2 + int(math.log(clusters))) / (2 + int(math.log(few)))  # scikit-learn's, for each centre
    return seconds * clusters / few * rows / looked_at * trials
