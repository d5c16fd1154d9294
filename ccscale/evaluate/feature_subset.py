"""Features of a subset of the images (all, if there are few), for the probes and the report's map.

RUN/features.npz    rows (n,) int64      rows of assignments.parquet
                    features (n, D)      float16, of the backbone
                    basis ()            JSON: see `basis.py`
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.array_types import Float32, Int64
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.basis import Basis
from ccscale.evaluate.table import chosen_features

FILE = "features.npz"
MAX_ROWS = 100_000


@dataclass(frozen=True)
class FeatureSubset:
    """The features of n images.

    Attributes
    ----------
    rows
        (n,): their numbers, rising.
    labels
        (n,): -1 where not known.
    backbone, instance
        (n, D) and (n, d): of the backbone, and the instance head's embeddings.
    """

    rows: Int64
    labels: Int64
    backbone: Float32
    instance: Float32

    @classmethod
    def join(cls, parts: Sequence["FeatureSubset"]) -> "FeatureSubset":
        """Join those of all ranks."""
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)
        return cls(
            rows[order],
            *(
                np.concatenate([getattr(part, name) for part in parts])[order]
                for name in ("labels", "backbone", "instance")
            ),
        )

    def of(self, chosen: NDArray[np.bool_]) -> "FeatureSubset":
        """Return some of them, by a mask (n,)."""
        return FeatureSubset(
            self.rows[chosen], self.labels[chosen], self.backbone[chosen], self.instance[chosen]
        )

    def save(self, path: Path, basis: Basis) -> None:
        """Write ``features.npz``."""
        data = io.BytesIO()
        # Squeezed into float16's range: a map does not need more, and an infinity would spoil it.
        features = np.clip(self.backbone, -65504, 65504).astype(np.float16)
        np.savez(data, rows=self.rows, features=features, basis=np.array(basis.to_bytes().decode()))
        atomic.write_bytes(path, data.getvalue())


def choose_rows(total: int, seed: int, limit: int = MAX_ROWS) -> Int64:
    """Return which of `total` images are in the subset, rising: all, or `limit` that follow from the seed."""
    if total <= limit:
        return np.arange(total, dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(total, limit, replace=False, shuffle=False)
    return np.sort(chosen).astype(np.int64)


def numbers_in_all(manifest: Manifest, splits: Sequence[str], rows: Int64) -> Int64:
    """Return the numbers that samples of some splits have among all of a data set: the same image has the same."""
    chosen = set(splits)
    sizes = np.array([shard.nsamples for shard in manifest.shards], dtype=np.int64)
    kept = np.array([shard.split in chosen for shard in manifest.shards], dtype=bool)
    starts = (np.cumsum(sizes) - sizes)[kept]
    own = np.cumsum(sizes[kept]) - sizes[kept]
    shard = np.searchsorted(own, rows, side="right") - 1
    return starts[shard] + rows - own[shard]


@dataclass
class SubsetTally:
    """Keeps the features of the chosen images among those that pass by."""

    rows: Int64
    widths: tuple[int, int]
    _parts: list[FeatureSubset] = field(default_factory=list)

    def add(self, assigned: Assigned) -> None:
        """Keep those of a batch; what cannot be decoded has no features."""
        samples = assigned.batch.samples
        place = np.minimum(np.searchsorted(self.rows, samples), len(self.rows) - 1)
        chosen = (self.rows[place] == samples) & ~assigned.batch.bad if len(self.rows) else np.zeros(0, bool)
        if chosen.any():
            self._parts.append(
                FeatureSubset(
                    samples[chosen],
                    assigned.batch.labels[chosen],
                    chosen_features(assigned, "backbone")[chosen],
                    chosen_features(assigned, "instance")[chosen],
                )
            )

    def subset(self) -> FeatureSubset:
        """Return what was kept."""
        width, d = self.widths
        none = np.empty(0, dtype=np.int64)
        empty = FeatureSubset(none, none, np.empty((0, width), np.float32), np.empty((0, d), np.float32))
        return FeatureSubset.join([empty, *self._parts])
