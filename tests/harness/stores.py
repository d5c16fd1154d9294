"""Feature stores of given numbers, as `ccscale embed` would write them."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.embed import growing, opening
from ccscale.features.feature_file import ENDING, encode, record_batch, schema, write_file
from ccscale.features.listing import ROWS, Dtype, FeatureFile, ListedDataSet, Listing, Settings
from ccscale.features.store import Features, open_features


def make_store(
    folder: Path,
    features: NDArray[Any] | Sequence[NDArray[Any]],
    labels: NDArray[np.int64] | None = None,
    *,
    shards: int | Sequence[int] = 2,
    split: str = "train",
    dtype: Dtype = "float32",
    bad: Sequence[int] = (),
    manifest: Manifest | None = None,
    block: int = ROWS,
    keys: Sequence[str] | None = None,
    root: str = "shards",
    **settings: Any,
) -> Features:
    """Write a store and open it.

    `features` is (n, D), or such an array for each view, the image as it is first. `shards` is how many there are,
    or the number of rows of each; `block` the rows of a record batch; `manifest` gives the shards in their place,
    with the splits; else they are said to lie in `root`. What else is given are fields of `Settings`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    views = [features] if isinstance(features, np.ndarray) else list(features)
    n, width = views[0].shape
    labels = np.full(n, -1) if labels is None else np.asarray(labels, dtype=np.int64)
    is_bad = np.isin(np.arange(n), bad)
    if manifest is None:
        many = shards if isinstance(shards, int) else len(shards)
        sizes = (
            [len(part) for part in np.array_split(np.arange(n), many)] if isinstance(shards, int) else shards
        )
        manifest = Manifest(
            root,
            "made",
            tuple(
                Shard(
                    f"{split}-{i:06d}.tar",
                    size,
                    1024 * size,
                    hashlib.sha256(
                        f"{i} {root}".encode() if root != "shards" else bytes([i % 256])
                    ).hexdigest(),
                    split,
                )
                for i, size in enumerate(sizes)
            ),
            tuple(f"class {i}" for i in range(labels.max(initial=-1) + 1)),
            tuple(str(i) for i in range(labels.max(initial=-1) + 1)),
            {split: int(np.count_nonzero(labels >= 0))},
            {},
        )
    files, first = [], 0
    for shard in manifest.shards:
        form = schema(width, len(views) - 1, dtype, {})
        batches = []
        for start in range(first, first + shard.nsamples, block):
            rows = slice(start, min(start + block, first + shard.nsamples))
            names = keys or [f"key-{i:08d}" for i in range(n)]
            kept = [encode(torch.from_numpy(np.ascontiguousarray(view[rows])), dtype) for view in views]
            batches.append(record_batch(form, names[rows], labels[rows], is_bad[rows], kept))
        name = shard.url.removesuffix(".tar").replace("/", "%2F") + ENDING
        written = write_file(folder / name, form, batches)
        files.append(
            FeatureFile(
                name=name,
                rows=written.rows,
                bytes=written.bytes,
                sha256=written.sha256,
                labelled=written.labelled,
                bad=written.bad,
                shard=shard,
            )
        )
        first += shard.nsamples
    assert first == n
    splits = tuple(manifest.splits)
    known = {
        "backbone": "test_resnet",
        "weights": "0" * 64,
        "size": 32,
        "dtype": dtype,
        "views": len(views) - 1,
    }
    Listing(
        settings=Settings(**known | settings),
        width=width,
        block=block,
        data=ListedDataSet(
            root=manifest.root,
            name=manifest.name,
            splits=splits,
            digest=manifest.digest(splits),
            classes=manifest.classes,
            class_ids=manifest.class_ids,
        ),
        files=tuple(files),
        complete=True,
    ).save(folder)
    return open_features(folder)


def small_blocks(change: Callable[[Any, str, int], None] = setattr) -> None:
    """Let `ccscale embed` make several parts of a shard of 30 images, and several rounds of 150."""
    change(opening, "ROWS", 8)
    change(growing, "ROUND", 6)
