"""Describes a feature store: counts, norms, settings."""

from pathlib import Path
from typing import Any

import numpy as np

from ccscale.features.store import BLOCK, Features
from ccscale.progress import Meter


def describe_store(folder: str | Path) -> dict[str, Any]:
    """Return a store's figures; reads the features of the images as they are once.

    Returns
    -------
    dict
        ``rows``, ``width``, ``bytes``, ``bad``, ``splits`` (rows, labelled, shards of each), ``norms`` (least,
        mean, greatest length of a row), ``spread`` (cosine of a row and the mean direction, on average: near 1
        where rows differ little), ``settings``, ``data``, ``neighbours``.
    """
    store = Features(folder)
    listing = store.listing
    splits: dict[str, dict[str, int]] = {}
    for file in store.files:
        counts = splits.setdefault(file.shard.split, {"rows": 0, "labelled": 0, "shards": 0})
        counts["rows"] += file.rows
        counts["labelled"] += file.labelled
        counts["shards"] += 1
    least, greatest, total, used = np.inf, 0.0, 0.0, 0
    direction = np.zeros(store.width)
    with Meter("reading", store.rows, "rows", show=True) as meter:
        for first, block in store.blocks(0):
            good = block[~store.bad[first : first + BLOCK]]
            lengths = np.linalg.norm(good, axis=1)
            if len(good):
                least, greatest = min(least, float(lengths.min())), max(greatest, float(lengths.max()))
                total += float(lengths.sum(dtype=np.float64))
                direction += (good / np.maximum(lengths, 1e-12)[:, None]).sum(axis=0, dtype=np.float64)
                used += len(good)
            meter.advance(len(block))
    return {
        "store": str(folder),
        "rows": store.rows,
        "width": store.width,
        "bytes": sum(file.bytes for file in store.files),
        "bad": sum(file.bad for file in store.files),
        "splits": splits,
        "norms": {"least": least, "mean": total / used, "greatest": greatest} if used else None,
        "spread": float(np.linalg.norm(direction)) / used if used else None,
        "settings": listing.settings.model_dump(mode="json"),
        "data": listing.data.model_dump(mode="json"),
        "neighbours": listing.neighbours,
    }
