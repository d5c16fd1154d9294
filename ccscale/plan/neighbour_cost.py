"""Estimates the cost of finding the nearest neighbours of a store's rows, measured on parts of the work.

If the search uses cells, these are computed as in the real search: the number of cells that each row is compared
with, which dominates the cost, cannot be known otherwise.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ccscale.errors import InputError
from ccscale.features.buffers import Buffers
from ccscale.features.ivf import IvfIndex, find_centres, near_cells, probes
from ccscale.features.lloyd import nearest_centres
from ccscale.features.nearest import nearest, tiles
from ccscale.features.neighbours import QUERIES, is_exact
from ccscale.features.vectors import BLOCK, Vectors
from ccscale.plan.probe import measured, seconds_of

TILES = 4  # that a part's search is tried on
FEW_CELLS = 64  # that a cell's search is tried on


@dataclass(frozen=True)
class NeighbourCost:
    """Estimated cost of the search.

    Attributes
    ----------
    seconds
        How long it takes.
    bytes
        What the process holds for itself, at most.
    disk, meanwhile
        Bytes that the neighbours take in the store, and that the work takes there until its end.
    recall
        The share of the nearest that is found, of a sample.
    cells, probes
        Number of cells, and of those that a row is compared with; 0 where it is compared with all rows.
    """

    seconds: float
    bytes: int
    disk: int
    meanwhile: int
    recall: float = 1.0
    cells: int = 0
    probes: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def neighbour_cost(vectors: Vectors, k: int, device: torch.device) -> NeighbourCost:
    """Estimate the cost of finding the k nearest neighbours of these vectors.

    Raises
    ------
    InputError
        If there are not more vectors than k.
    """
    rows = len(vectors)
    if k >= rows:
        raise InputError(f"{k:,} neighbours per image are too many for {rows:,} images: use fewer")
    vectors = vectors.scaled()
    seconds, cost = measured(lambda: _exact(vectors, k, device) if is_exact(vectors, device) else 0.0)
    disk, parts = 8 * k * rows, (8 + 12 * k) * rows  # as they are kept; as they are found
    joined = disk + (8 + 12 * k) * QUERIES
    if seconds:
        return NeighbourCost(seconds, cost.bytes + joined, disk, parts)
    (seconds, found), cost = measured(lambda: _by_cells(vectors, k, device))
    held = cost.bytes + max(0, joined - 4 * len(found["near"]) ** 2)  # the votes are gone by then
    meanwhile = parts + 2 * vectors.width * rows
    counts = {"cells": len(found["near"]), "probes": found["probes"], "recall": found["recall"]}
    return NeighbourCost(seconds, held, disk, meanwhile, **counts)


def _exact(vectors: Vectors, k: int, device: torch.device) -> float:
    """Return the seconds of a search among all rows: of the first tiles of a part, so many times more."""
    rows = len(vectors)
    queries = vectors.span(0, QUERIES).to(device)
    numbers = torch.arange(len(queries), device=device)

    def search(count: int) -> float:
        some = vectors.subset(np.arange(min(rows, count * BLOCK)))
        return seconds_of(lambda: nearest(queries, numbers, tiles(some, device), k), 1)

    first, all_ = search(1), -(-rows // BLOCK)
    more = (search(TILES) - first) / (TILES - 1) if all_ >= TILES else first
    return (first + (all_ - 1) * more) * rows / len(queries)


def _by_cells(vectors: Vectors, k: int, device: torch.device) -> tuple[float, dict[str, Any]]:
    """Return the seconds of a search in cells, and what was found of them."""
    rows = len(vectors)

    def find() -> tuple[Any, ...]:
        centres, sample = find_centres(vectors, device)
        near, sizes = near_cells(sample, centres)
        return centres, near, sample, sizes, *probes(vectors, centres, near, k)

    (centres, near, sample, sizes, many, recall), begin = measured(find)
    block = vectors.span(0, BLOCK).to(device)
    scattered = np.random.default_rng(0).permutation(rows)[: len(block)]
    read = seconds_of(lambda: vectors.span(0, BLOCK).to(device))
    assign = seconds_of(lambda: nearest_centres(block, centres))
    write = seconds_of(lambda: vectors.take(scattered).half().numpy().tobytes())
    # Large cells are examined more often, and by more vectors.
    compared = float(sizes @ sizes[near[:, :many]].sum(1)) * (rows / len(sample)) ** 2
    few, buffers = _few_cells(sample, rows // len(near), many), Buffers(device)
    a_pair = seconds_of(lambda: few.neighbours(0, k, many, buffers)) / (many * (rows // len(near)) ** 2)
    seconds = begin.seconds + rows / len(block) * (read + assign + write) + compared * a_pair
    return seconds, {"near": near, "probes": many, "recall": recall}


def _few_cells(sample: Vectors, size: int, probes: int) -> IvfIndex:
    """Return cells of one size, of a few of which the first is near again and again."""
    places = np.arange(size * (FEW_CELLS + 1)) % len(sample)
    near = np.append([0], 1 + np.arange(probes - 1) % FEW_CELLS)
    return IvfIndex(
        np.empty((0, sample.width), np.float32),
        order=places,
        starts=size * np.arange(FEW_CELLS + 2),
        near=near[None].astype(np.int32),
        vectors=sample.take(places).half().numpy(),
    )
