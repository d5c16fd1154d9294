"""Cells for approximate neighbour search: vectors grouped by the nearest of C centres, searched in nearby cells.

::

    cells.npz      centres (C, D); order (n,): the vectors, cell by cell; starts (C + 1,): where each cell begins;
                   near (C, P): for each cell, the cells to search, by votes, itself first
    vectors.npy    (n, D) float16, of length 1, in this order

Each vector of a sample votes, with weight 1/r, for the cell whose centre is its r-th nearest; the votes of a cell
are those of its vectors. So the cells searched depend on where its vectors lie, not only on its centre.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import atomic, dist
from ccscale.array_types import Int64
from ccscale.device import cpu_has_bf16
from ccscale.features.buffers import Buffers
from ccscale.features.lloyd import Blocks, lloyd, nearest_centres, scale_of
from ccscale.features.nearest import nearest, tiles
from ccscale.features.vectors import BLOCK, Vectors
from ccscale.progress import Meter

CELL = 256  # vectors of a cell, about
SAMPLE_BYTES, PER_CELL = 2**28, 32  # of vectors that centres are found by, and that vote
PASSES = 5
VOTES = 64  # cells that a vector votes for
MOST_NEAR = 1024  # cells that are kept of those near one
NEAR_ROWS = 256  # cells that are put in order at a time
ASKED = 256  # vectors whose neighbours are found exactly, to see how many cells are to be looked at
RECALL = 0.95  # of the neighbours of these that is to be found
QUERIES = 1024  # vectors of a cell that are compared at a time
CLOSELY = 128  # vectors whose candidates are examined closely at a time
# Multiplications are of few sizes: torch keeps what it makes for each (oneDNN's primitives), some 600 KB.
ROWS, COLUMNS = 64, 1024
MORE = 2  # times as many candidates as neighbours, where they are found by rounded cosines


@dataclass(frozen=True)
class IvfIndex:
    """Vectors, cell by cell; see the module."""

    centres: NDArray[np.float32]
    order: Int64
    starts: Int64
    near: NDArray[np.int32]
    vectors: NDArray[np.float16]

    @classmethod
    def open(cls, folder: Path) -> "IvfIndex":
        """Open the files that `build` wrote; the vectors are memory-mapped."""
        with np.load(folder / "cells.npz") as content:
            own = {name: content[name] for name in ("centres", "order", "starts", "near")}
        # "c", though nothing is written: torch warns of arrays that cannot be.
        return cls(**own, vectors=np.load(folder / "vectors.npy", mmap_mode="c"))

    def neighbours(self, cell: int, k: int, probes: int, buffers: Buffers) -> tuple[Int64, Int64, Tensor]:
        """Return a cell's vectors (q,), their nearest (q, k) in the cells near it, and the cosines (q, k)."""
        start, stop = self._span(cell)
        spans = [(first, min(first + QUERIES, stop)) for first in range(start, max(stop, start + 1), QUERIES)]
        found = [self._neighbours(span, cell, k, probes, buffers) for span in spans]
        places = torch.cat([near for near, _ in found]).cpu().numpy()
        cosines = torch.cat([cosines for _, cosines in found])
        return self.order[start:stop], np.where(places >= 0, self.order[places], -1), cosines

    def _neighbours(
        self, span: tuple[int, int], cell: int, k: int, probes: int, buffers: Buffers
    ) -> tuple[Tensor, Tensor]:
        """Return the nearest (q, k) of some consecutive vectors of a cell, and the cosines."""
        own, kind = torch.arange(*span, device=buffers.device), quick_type(buffers.device)
        bank = (
            (_numbers(spans, buffers.device), self._take(spans, "bank", kind, buffers, COLUMNS))
            for spans in self._bank(cell, probes)
        )
        queries = self._take([span], "queries", kind, buffers, ROWS)
        if kind == torch.float32:
            cosines, found = nearest(queries, own, bank, k, buffers)
            return found, cosines
        _, found = nearest(queries, own, bank, MORE * k, buffers)
        queries = self._take([span], "queries", torch.float32, buffers, 1)
        found = found.sort(dim=1).values
        best = [
            self._nearest_of(some, candidates, k, buffers)
            for some, candidates in zip(queries.split(CLOSELY), found.split(CLOSELY), strict=True)
        ]
        return torch.cat([found for found, _ in best]), torch.cat([cosines for _, cosines in best])

    def _nearest_of(self, queries: Tensor, found: Tensor, k: int, buffers: Buffers) -> tuple[Tensor, Tensor]:
        """Return the k nearest of some candidates (q, m) of each query, by exact cosines; equals in their order."""
        shape = *found.shape, queries.shape[1]
        rows = buffers.take("stored", found.numel(), shape[2], dtype=torch.float16)
        torch.index_select(torch.from_numpy(self.vectors), 0, found.clamp_min(0).flatten(), out=rows)
        vectors = buffers.take("candidates", *shape).copy_(rows.view(shape))
        cosines = torch.bmm(vectors, queries[:, :, None])[:, :, 0].masked_fill(found < 0, -torch.inf)
        best, order = cosines.sort(dim=1, descending=True, stable=True)
        return found.gather(1, order[:, :k]), best[:, :k]

    def _bank(self, cell: int, probes: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the cell itself, after which few others are near enough, and then the cells near it."""
        yield [self._span(cell)]
        some: list[tuple[int, int]] = []
        size = 0
        for other in np.sort(self.near[cell, 1:probes]).tolist():
            start, stop = self._span(other)
            if some and size + stop - start > BLOCK:
                yield some
                some, size = [], 0
            some.append((start, stop))
            size += stop - start
        if size:
            yield some

    def _span(self, cell: int) -> tuple[int, int]:
        return int(self.starts[cell]), int(self.starts[cell + 1])

    def _take(
        self, spans: list[tuple[int, int]], name: str, kind: torch.dtype, buffers: Buffers, multiple: int
    ) -> Tensor:
        """Copy the vectors of some spans into a buffer of this many rows, or of a multiple."""
        sizes = [stop - start for start, stop in spans]
        rows, width = -(-sum(sizes) // multiple) * multiple, self.vectors.shape[1]
        floats = buffers.take(name, rows, width)
        for part, (start, stop) in zip(floats[: sum(sizes)].split(sizes), spans, strict=True):
            part.copy_(torch.from_numpy(self.vectors[start:stop]))
        if kind == torch.float32:
            return floats
        rounded = buffers.take(f"{name}, rounded", rows, width, dtype=kind)
        return rounded.copy_(floats)  # in one step it is slower


def _numbers(spans: list[tuple[int, int]], device: torch.device) -> Tensor:
    return torch.cat([torch.arange(start, stop, device=device) for start, stop in spans])


def quick_type(device: torch.device) -> torch.dtype:
    """Return the type in which a device finds candidates: bfloat16 where a CPU multiplies it, at twice the rate."""
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


def build(vectors: Vectors, folder: Path, device: torch.device, show: bool = True) -> None:
    """Write the cells of vectors of length 1 into a folder, where they are not there yet; all ranks call it."""
    if dist.on_rank_zero(lambda: (folder / "cells.npz").exists()):  # which is written last
        return
    centres, sample = find_centres(vectors, device)
    homes, spans = np.empty(len(vectors), np.int32), []  # not made up of parts: see kmeans.py
    with Meter("cells", len(vectors), "images", show and dist.rank() == 0) as meter:
        for start in range(dist.rank() * BLOCK, len(vectors), dist.world() * BLOCK):
            block, span = vectors.span(start, start + BLOCK).to(device), slice(start, start + BLOCK)
            homes[span] = nearest_centres(block, centres).cpu().numpy()
            spans.append(span)
            meter.advance(min(len(block) * dist.world(), len(vectors) - start))
    for some in dist.all_objects([(span, homes[span]) for span in spans]):
        for span, found in some:
            homes[span] = found
    dist.on_rank_zero(lambda: _write(vectors, sample, centres, homes, folder))


def find_centres(vectors: Vectors, device: torch.device) -> tuple[Tensor, Vectors]:
    """Return the centres (C, D) of cells, and the sample that they were found by; all ranks call it."""
    count = max(1, min(len(vectors) // CELL, 4 * math.isqrt(len(vectors))))
    most = min(len(vectors), PER_CELL * count, SAMPLE_BYTES // (4 * vectors.width))
    generator = np.random.default_rng(0)
    sample = vectors.subset(np.sort(generator.choice(len(vectors), max(most, count), replace=False)))
    first = sample.take(np.sort(generator.choice(len(sample), count, replace=False))).to(device)
    blocks = Blocks(sample, device, keep=True)
    scale = scale_of(blocks, len(sample))
    return lloyd(blocks, first, scale, spherical=True, most=PASSES).centres, sample


def probes(
    vectors: Vectors, centres: Tensor, near: NDArray[np.int32], k: int, seed: int = 0
) -> tuple[int, float]:
    """Return how many cells are to be looked at, and the share of the k nearest that is found then.

    It is measured on `ASKED` vectors, whose neighbours are found exactly.
    """
    device = centres.device
    asked = np.sort(np.random.default_rng(seed).choice(len(vectors), min(ASKED, len(vectors)), replace=False))
    queries = vectors.take(asked).to(device)
    _, found = nearest(queries, torch.from_numpy(asked).to(device), tiles(vectors, device), k)
    of_queries = nearest_centres(queries, centres).cpu().numpy()
    of_found = nearest_centres(vectors.take(found.flatten().cpu().numpy()).to(device), centres)
    looked_at = np.zeros(near.shape[1] + 1)
    for cell, others in zip(of_queries, of_found.view(found.shape).cpu().numpy(), strict=True):
        place = np.full(len(near), near.shape[1])
        place[near[cell]] = np.arange(near.shape[1])
        looked_at += np.bincount(place[others], minlength=len(looked_at))
    recall = np.cumsum(looked_at[:-1]) / looked_at.sum()
    many = min(int(np.searchsorted(recall, RECALL)) + 1, len(recall))
    return many, float(recall[many - 1])


def _write(
    vectors: Vectors, sample: Vectors, centres: Tensor, homes: NDArray[np.int32], folder: Path
) -> None:
    order = np.argsort(homes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(homes, minlength=len(centres)))])
    with atomic.replacing(folder / "vectors.npy") as file:
        shape = {"descr": "<f2", "fortran_order": False, "shape": (len(vectors), vectors.width)}
        np.lib.format.write_array_header_2_0(file, shape)
        for start in range(0, len(order), BLOCK):
            file.write(vectors.take(order[start : start + BLOCK]).half().numpy().tobytes())
    with atomic.replacing(folder / "cells.npz") as file:
        near, _ = near_cells(sample, centres)
        np.savez(file, centres=centres.cpu().numpy(), order=order, starts=starts, near=near)


def near_cells(sample: Vectors, centres: Tensor) -> tuple[NDArray[np.int32], Int64]:
    """Return for each cell the cells, that of the most votes first; and how many of the sample lie in each."""
    count = len(centres)
    sizes = np.zeros(count, np.int64)
    votes = np.zeros((count, count), np.float32)
    weights = (1 / np.arange(1, min(VOTES, count) + 1)).astype(np.float32)
    for start in range(0, len(sample), BLOCK):
        block = sample.span(start, start + BLOCK).to(centres.device)
        for rows in block.split(max(1, 2**24 // count)):
            nearest_first = (rows @ centres.T).topk(len(weights), dim=1).indices.cpu().numpy()
            np.add.at(votes, (nearest_first[:, :1], nearest_first), weights)
            sizes += np.bincount(nearest_first[:, 0], minlength=count)
    np.fill_diagonal(votes, np.inf)
    near = np.empty((count, min(count, MOST_NEAR)), np.int32)
    for start in range(0, count, NEAR_ROWS):
        rows = slice(start, start + NEAR_ROWS)
        # Of cells that nobody voted for those of near centres come first: all cosines are below any vote.
        wanted = votes[rows] + 1e-6 * (centres[rows] @ centres.T).cpu().numpy()
        near[rows] = np.argsort(-wanted, axis=1, kind="stable")[:, :MOST_NEAR]
    return near, sizes
