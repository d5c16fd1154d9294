"""Finds the nearest neighbours of every row of a store, by cosine, and keeps them in it (`neighbour_file.py`).

    STORE/neighbours.part-HASH/000012.npz    of some rows, whole or not there; gone when all are

Each part is worked out from the store alone, so the bytes are the same on any number of ranks, killed or not: a
rank takes every W-th of the parts that are missing. Up to `EXACT_WORK` each row is compared with every other;
beyond it with those of the cells near its own (`ivf.py`), of as many as a sample of rows says are needed.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccscale import atomic, dist
from ccscale.array_types import Float32, Int64
from ccscale.data.shards.hashing import hash_file
from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.features.buffers import Buffers
from ccscale.features.ivf import IvfIndex, build, probes
from ccscale.features.listing import list_neighbours
from ccscale.features.nearest import nearest, tiles
from ccscale.features.neighbour_file import FILE, ROWS, write_neighbours
from ccscale.features.store import Features, open_features
from ccscale.features.vectors import Vectors
from ccscale.progress import Meter

QUERIES = 4096  # rows whose neighbours are one part
EXACT_WORK = 2**42  # multiplications of all rows with all up to which each is compared with every other
ON_GPU = 2**8  # by how much more a GPU does


def find_neighbours(
    features: Features, k: int, view: int | None = 0, *, device: str = "auto", show: bool = True
) -> dict[str, Any]:
    """Find the nearest neighbours of every row of a store, and keep them in it; all ranks call it together.

    Where the store has as many already, of this view and these features, nothing is done.

    Parameters
    ----------
    features : Features
        The store; rows of all its splits are examined, whichever are opened.
    k : int
        How many neighbours of each row.
    view : int, optional
        Which view is compared; None for the mean of all views, each scaled to length 1.
    device : str, default "auto"
        See ``train.device``.
    show : bool, default True
        Show how far it has come.

    Returns
    -------
    dict
        What the store lists of them: ``k``, ``view``, ``features`` (a hash of them), ``exact``, ``recall`` (the
        share of the k nearest that were found, of a sample), ``bytes``, ``sha256``.

    Raises
    ------
    InputError
        If there are not more rows than k.
    """
    whole = open_features(features.folder)
    section = whole.neighbour_section
    wanted = {"view": view, "features": whole.digest}
    if section is not None and section["k"] >= k and wanted.items() <= section.items():
        return section
    vectors = Vectors.of_store(whole, view).scaled()
    if k >= len(vectors):
        raise InputError(
            f"{k:,} neighbours per image are too many for the {len(vectors):,} images of "
            f"{features.folder}: use fewer"
        )
    search = _Search(vectors, k, pick_device(device))
    work = _Work(features.folder, wanted | {"k": k, "exact": search.exact})
    dist.on_rank_zero(work.begin)
    facts = search.prepare(work.folder, show)
    missing = dist.on_rank_zero(lambda: work.missing(search.parts))
    mine = missing[dist.rank() :: dist.world()]

    def find() -> None:
        speaks, done = show and dist.rank() == 0, search.parts - len(missing)
        with Meter("neighbours", search.parts, "parts", speaks, done) as meter:
            for part in mine:
                work.save(part, *search.find(part))
                meter.advance(dist.world())

    dist.together(find)
    return dist.on_rank_zero(lambda: work.finish(whole.rows, vectors.numbers, search.parts, facts))


class _Search:
    """Finds the neighbours of the vectors of a part: of a span of them, or of a span of cells."""

    def __init__(self, vectors: Vectors, k: int, device: torch.device) -> None:
        self.vectors, self.k, self.device = vectors, k, device
        self.exact = is_exact(vectors, device)
        self._spans = spans(len(vectors), QUERIES)
        self._buffers = Buffers(device)

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self._spans)

    def prepare(self, folder: Path, show: bool) -> dict[str, Any]:
        """Make cells, where they are needed; return what is to be told of the search. All ranks call it."""
        if self.exact:
            return {"recall": 1.0}
        build(self.vectors, folder, self.device, show)
        self.cells = dist.together(lambda: IvfIndex.open(folder))
        centres = torch.from_numpy(self.cells.centres).to(self.device)
        self.probes, recall = dist.on_rank_zero(
            lambda: probes(self.vectors, centres, self.cells.near, self.k)
        )
        many = len(self.cells.near)
        if show:
            dist.say(
                f"each image is compared with those of {self.probes:,} of {many:,} cells: recall {recall:.3f}"
            )
        self._spans = spans(many, max(1, QUERIES * many // len(self.vectors)))
        return {"recall": recall, "cells": many, "probes": self.probes}

    def find(self, part: int) -> tuple[Int64, Int64, Float32]:
        """Return the numbers (q,) of a part's vectors, those of their neighbours (q, k), and the cosines."""
        start, stop = self._spans[part]
        if not self.exact:
            found = [
                self.cells.neighbours(cell, self.k, self.probes, self._buffers) for cell in range(start, stop)
            ]
            own, near, cosines = zip(*found, strict=True)
            return np.concatenate(own), np.concatenate(near), torch.cat(cosines).cpu().numpy()
        queries = self.vectors.span(start, stop).to(self.device)
        numbers = torch.arange(start, stop, device=self.device)
        best, nearest_first = nearest(
            queries, numbers, tiles(self.vectors, self.device), self.k, self._buffers
        )
        return numbers.cpu().numpy(), nearest_first.cpu().numpy(), best.cpu().numpy()


def is_exact(vectors: Vectors, device: torch.device) -> bool:
    """Return whether each of these vectors is compared with every other."""
    most = EXACT_WORK * (ON_GPU if device.type == "cuda" else 1)
    return len(vectors) ** 2 * vectors.width <= most


def spans(count: int, size: int) -> list[tuple[int, int]]:
    """Return the spans of this many things, of some size each, the last one shorter."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


class _Work:
    """The parts that are done, in a folder of the store."""

    def __init__(self, store: Path, settings: dict[str, Any]) -> None:
        self.store, self.settings = store, settings
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder = store / f"neighbours.part-{digest[:12]}"

    def begin(self) -> None:
        """Make the folder, and remove those of other settings."""
        for other in self.store.glob("neighbours.part-*"):
            if other != self.folder:
                shutil.rmtree(other)
        self.folder.mkdir(exist_ok=True)

    def missing(self, parts: int) -> list[int]:
        """Return which of this many parts are not there."""
        return [part for part in range(parts) if not self._path(part).exists()]

    def save(self, part: int, numbers: Int64, found: Int64, cosines: Float32) -> None:
        """Write a part atomically."""
        with atomic.replacing(self._path(part), hidden=True) as file:
            np.savez(file, numbers=numbers, found=found, cosines=cosines)

    def finish(self, rows: int, numbers: Int64, parts: int, facts: dict[str, Any]) -> dict[str, Any]:
        """Join the parts, list what they became, and remove them.

        Parameters
        ----------
        rows
            Of the store.
        numbers
            (n,): which of them the vectors are.
        parts
            How many there are.
        facts
            What is listed beside the settings.
        """
        path = self.store / FILE
        list_neighbours(self.store, None)
        write_neighbours(path, self._joined(rows, numbers, parts), self.settings["k"], rows)
        sha256, size = hash_file(path)
        section = self.settings | facts | {"bytes": size, "sha256": sha256}
        list_neighbours(self.store, section)
        shutil.rmtree(self.folder)
        return section

    def _joined(self, rows: int, numbers: Int64, parts: int) -> Iterator[tuple[Int64, Float32]]:
        """Yield the neighbours of all rows of the store, by row, `ROWS` at a time."""
        k = self.settings["k"]
        found = np.full((rows, k), -1, np.int32 if rows < 2**31 else np.int64)
        cosines = np.zeros((rows, k), np.float32)
        for part in range(parts):
            with np.load(self._path(part)) as content:
                own, near = numbers[content["numbers"]], content["found"]
                found[own] = np.where(near >= 0, numbers[near], -1)
                cosines[own] = np.where(near >= 0, content["cosines"], 0)
        for start in range(0, rows, ROWS):
            yield found[start : start + ROWS], cosines[start : start + ROWS]

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:06d}.npz"
