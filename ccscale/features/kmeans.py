"""k-means over any number of vectors, on any number of ranks: the baseline of every result, and an answer itself.

Each start takes its centres from k-means++ (Arthur and Vassilvitskii 2007) on a part of the vectors, and moves them
by Lloyd's algorithm over a sample: all vectors, where they are not too many. The start of the lowest inertia goes
on over all of them, for as many passes as `WORK` allows, two at least. Spherical k-means (Dhillon and Modha 2001)
scales vectors and centres to length 1.

The same centres, bit for bit, come out on any number of ranks: which vectors form a block follows from their number
alone, and what is added up over blocks and ranks are whole numbers (`_sums`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import dist
from ccscale.errors import InputError
from ccscale.features.vectors import BLOCK, Vectors, unit
from ccscale.progress import Meter

STARTS = (
    (2**26, 40),
    (2**31, 10),
    (2**36, 3),
)  # up to how many multiplications of a pass how many starts are made; then one
SAMPLE_BYTES = 2**29  # of vectors that are kept in memory, over all ranks
FIRST_ROWS, FIRST_PER_CLUSTER = 2**14, 16  # vectors that k-means++ looks at
PASSES = 100
WORK = 2**43  # multiplications of all passes over more vectors than the sample
TOLERANCE = 1e-5  # a pass that lowers the inertia by less, relative to it, is the last
SCORES = 2**24  # distances that are held at a time


@dataclass(frozen=True)
class Means:
    """What k-means found for n vectors of width D.

    Attributes
    ----------
    centres : numpy.ndarray
        (K, D) float32.
    clusters : numpy.ndarray
        (n,) int64: the nearest centre of each.
    distances : numpy.ndarray
        (n,) float32: the Euclidean distance to it, of vectors of length 1 where k-means is spherical.
    inertia : float
        Sum of the squares of these distances.
    passes : int
        Over the sample, and over all.
    """

    centres: NDArray[np.float32]
    clusters: NDArray[np.int64]
    distances: NDArray[np.float32]
    inertia: float
    passes: int


def k_means(
    vectors: Vectors | NDArray[np.floating],
    clusters: int,
    seed: int = 0,
    *,
    spherical: bool = False,
    starts: int | None = None,
    device: torch.device | None = None,
    show: bool = False,
) -> Means:
    """Cluster vectors by k-means; all ranks call it together, and get the same.

    Parameters
    ----------
    vectors
        n of them, or an array (n, D).
    clusters
        K, at most n.
    seed
        Of the starts.
    spherical
        Scale vectors and centres to length 1.
    starts
        How many are made; 40, 10, 3 or 1 by the size of the work, by default.
    device
        Where distances are computed; the CPU by default.
    show
        Show how far it has come.

    Returns
    -------
    Means
        Those of the start of the lowest inertia.

    Raises
    ------
    InputError
        If there are fewer vectors than clusters.
    """
    if not isinstance(vectors, Vectors):
        vectors = Vectors.of_array(vectors)
    if spherical:
        vectors = vectors.scaled()
    if not 1 <= clusters <= len(vectors):
        raise InputError(
            f"there are {len(vectors):,} images and {clusters:,} clusters are asked for: ask for fewer"
        )
    device = device or torch.device("cpu")
    in_memory = max(SAMPLE_BYTES // (4 * vectors.width), 2 * clusters)
    few = len(vectors) <= in_memory
    generator = np.random.default_rng(seed)
    sample = vectors
    if not few:
        sample = vectors.subset(np.sort(generator.choice(len(vectors), in_memory, replace=False)))
    work = len(sample) * clusters * vectors.width
    many = starts or next((number for most, number in STARTS if work <= most), 1)
    blocks = _Blocks(sample, device, keep=True)
    scale = _scale(blocks, len(vectors))
    best: _Found | None = None
    with Meter("k-means", many, "starts", show and dist.rank() == 0) as meter:
        for start in range(many):
            centres = _first_centres(sample, clusters, (seed, start)).to(device)
            found = _lloyd(blocks, centres, scale, spherical, PASSES)
            best = found if best is None or found.inertia < best.inertia else best
            meter.advance()
    assert best is not None
    passes = best.passes
    if not few:
        blocks = _Blocks(vectors, device, keep=False)
        scale = _scale(blocks, len(vectors))
        most = min(PASSES, max(2, WORK // (len(vectors) * clusters * vectors.width)))
        best = _lloyd(blocks, best.centres, scale, spherical, most, show)
        passes += best.passes
    return _assigned(blocks, best.centres, passes, len(vectors))


def move_centres(vectors: Vectors, centres: Tensor, passes: int, spherical: bool = False) -> Tensor:
    """Move centres (K, D) by Lloyd's algorithm, for so many passes at most; all ranks call it, and get the same."""
    blocks = _Blocks(vectors, centres.device, keep=True)
    return _lloyd(blocks, centres, _scale(blocks, len(vectors)), spherical, passes).centres


class _Blocks:
    """A rank's share of the vectors, block by block, with the number of the first of each."""

    def __init__(self, vectors: Vectors, device: torch.device, keep: bool) -> None:
        self.vectors, self.device = vectors, device
        self._kept: list[tuple[int, Tensor]] | None = None
        if keep:
            self._kept = list(self)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        for start in range(dist.rank() * BLOCK, len(self.vectors), dist.world() * BLOCK):
            yield start, self.vectors.span(start, start + BLOCK).to(self.device)


@dataclass(frozen=True)
class _Scale:
    """What vectors are multiplied by before they are rounded to whole numbers and added up."""

    factor: float
    squares: float
    """Sum of the squares of all entries, in the blocks it was taken of."""


def _scale(blocks: _Blocks, rows: int) -> _Scale:
    """Return a scale with which so many rows add up to less than 2^53; refuse what is no number."""
    largest, squares = 0.0, []
    for _, block in blocks:
        largest = max(largest, float(block.abs().max())) if bool(block.isfinite().all()) else math.inf
        squares.append(float(block.double().square().sum()))
    of_ranks = dist.all_objects((largest, squares))
    largest = max(one for one, _ in of_ranks)
    if not math.isfinite(largest):
        raise InputError(
            "there are features that are no finite numbers; make the store anew with `ccscale embed`"
        )
    bits = 53 - rows.bit_length() - math.frexp(largest)[1]
    return _Scale(2.0**bits, math.fsum(one for _, some in of_ranks for one in some))


@dataclass(frozen=True)
class _Found:
    centres: Tensor
    inertia: float
    passes: int


def _lloyd(
    blocks: _Blocks, centres: Tensor, scale: _Scale, spherical: bool, most: int, show: bool = False
) -> _Found:
    """Move the centres until the inertia stays, or for `most` passes; the inertia is that of the last but one."""
    before, passes = math.inf, 0
    with Meter("k-means over all", most, "passes", show and dist.rank() == 0) as meter:
        for _ in range(most):
            passes += 1
            sums, counts = _sums(blocks, centres, scale)
            squares = centres.double().square().sum(1)
            inertia = scale.squares - 2 * float((sums * centres).sum()) + float(squares @ counts.double())
            inertia = max(inertia, 0.0)
            centres = _moved(sums, counts, centres, spherical)
            meter.advance()
            if before < math.inf and before - inertia <= TOLERANCE * before and bool((counts > 0).all()):
                break
            before = inertia
    return _Found(centres, inertia, passes)


def _sums(blocks: _Blocks, centres: Tensor, scale: _Scale) -> tuple[Tensor, Tensor]:
    """Return the sum (K, D) float64 and the number (K,) of each centre's vectors, over all ranks.

    Entries are rounded to whole numbers, of a unit below float32's rounding of the largest, which doubles add up
    without rounding: no order changes the sum.
    """
    sums = torch.zeros(centres.shape, dtype=torch.float64, device=centres.device)
    counts = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
    for _, block in blocks:
        nearest = nearest_centres(block, centres)
        counts += torch.bincount(nearest, minlength=len(centres))
        sums.index_add_(0, nearest, block.double().mul_(scale.factor).round_())
    dist.sum_(sums)
    dist.sum_(counts)
    return sums / scale.factor, counts


def nearest_centres(block: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre of each vector, (m,); the first of equals."""
    half = centres.square().sum(1) / 2
    rows = max(1, SCORES // len(centres))
    parts = [torch.addmm(half, part, centres.T, beta=-1).argmax(1) for part in block.split(rows)]
    return torch.cat(parts)


def _moved(sums: Tensor, counts: Tensor, centres: Tensor, spherical: bool) -> Tensor:
    """Return the means, and for an empty cluster a half of the largest one."""
    moved = (sums / counts.clamp_min(1)[:, None]).float()
    if spherical:
        length = moved.norm(dim=1, keepdim=True)
        moved = torch.where(length > 1e-12, unit(moved), centres)
    sizes = counts.clone()
    for empty in torch.nonzero(counts == 0).flatten().tolist():
        large = int(sizes.argmax())
        signs = torch.where(torch.arange(moved.shape[1], device=moved.device) % 2 == 0, 1e-3, -1e-3)
        moved[empty], moved[large] = moved[large] * (1 + signs), moved[large] * (1 - signs)
        sizes[empty] = sizes[large] // 2
        sizes[large] -= sizes[empty]
    return moved


def _first_centres(vectors: Vectors, clusters: int, seed: tuple[int, int]) -> Tensor:
    """Return centres by k-means++ on a part of the vectors; both follow from the seed."""
    from sklearn.cluster import kmeans_plusplus

    def choose() -> NDArray[np.float32]:
        generator = np.random.default_rng(seed)
        rows = min(len(vectors), max(FIRST_ROWS, FIRST_PER_CLUSTER * clusters))
        places = np.sort(generator.choice(len(vectors), rows, replace=False))
        part = vectors.take(places).numpy()
        return kmeans_plusplus(part, clusters, random_state=int(generator.integers(2**31)))[0]

    return torch.from_numpy(dist.on_rank_zero(choose))


def _assigned(blocks: _Blocks, centres: Tensor, passes: int, rows: int) -> Means:
    """Assign all vectors to the centres, and tell that on every rank."""
    mine = []
    for start, block in blocks:
        nearest = nearest_centres(block, centres)
        distances = (block - centres[nearest]).norm(dim=1)
        mine.append((start, nearest.cpu().numpy(), distances.cpu().numpy()))
    clusters, distances_ = np.empty(rows, np.int64), np.empty(rows, np.float32)
    for some in dist.all_objects(mine):
        for start, nearest_, far in some:
            clusters[start : start + len(nearest_)] = nearest_
            distances_[start : start + len(far)] = far
    inertia = float(np.square(distances_, dtype=np.float64).sum())
    return Means(centres.cpu().numpy(), clusters, distances_, inertia, passes)
