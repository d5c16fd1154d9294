"""Some rows of a feature store as a store of their own, with neighbours."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.features.feature_file import ENDING, encode, record_batch, schema, write_file
from ccscale.features.listing import ROWS, FeatureFile, ListedDataSet, Listing, Settings
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import Features, open_features

NEIGHBOURS = 25


def write_sample(
    features: Features, rows: NDArray[np.int64], views: Sequence[NDArray[np.floating]], folder: Path
) -> Features:
    """Write what is kept of some rows (n,): an array (n, D) a view, the image as it is first; and open it."""
    digest, labels = hashlib.sha256(rows.tobytes()).hexdigest(), features.labels[rows]
    keys = features.keys.take(rows).to_pylist()
    write_rows(folder, views, keys, labels, features.bad[rows], digest)
    find_neighbours(open_features(folder), NEIGHBOURS, device="cpu", show=False)
    return open_features(folder)


def write_rows(
    folder: Path,
    views: Sequence[NDArray[np.floating]],
    keys: Sequence[str],
    labels: NDArray[np.int64],
    bad: NDArray[np.bool_],
    digest: str,
) -> None:
    """Write a store of one shard, whose hash is made up: its keys, labels (n,), which are bad, (n,), and views."""
    folder.mkdir()
    width, name = views[0].shape[1], f"train-000000{ENDING}"
    form = schema(width, len(views) - 1, "float32", {})
    batches = [
        record_batch(
            form,
            keys[start : start + ROWS],
            labels[start : start + ROWS],
            bad[start : start + ROWS],
            [encode(torch.from_numpy(view[start : start + ROWS]), "float32") for view in views],
        )
        for start in range(0, len(keys), ROWS)
    ]
    written = write_file(folder / name, form, iter(batches))
    shard = Shard("train-000000.tar", len(keys), len(keys), digest, "train")
    names = tuple(map(str, range(int(labels.max()) + 1)))
    manifest = Manifest(str(folder), folder.name, (shard,), names, names, {"train": len(keys)}, {})
    data = ListedDataSet(
        root=str(folder),
        name=folder.name,
        splits=("train",),
        digest=manifest.digest(["train"]),
        classes=names,
    )
    settings = Settings(backbone="none", weights="0" * 64, size=1, views=len(views) - 1)
    files = (FeatureFile(name=name, shard=shard, **vars(written)),)
    Listing(settings=settings, width=width, data=data, files=files, complete=True).save(folder)
