"""k-means over any number of vectors, on any number of ranks: the baseline of every result, and a result itself.

Each start takes its centres from k-means++ (Arthur and Vassilvitskii 2007) on a part of the vectors and runs
Lloyd's algorithm (`lloyd.py`) on a sample, or on all vectors if there are few. The start with the lowest inertia
continues on all vectors (`work_of` says how often). Spherical k-means (Dhillon and Modha 2001) scales vectors and
centres to length 1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import dist
from ccscale.errors import InputError
from ccscale.features.lloyd import Blocks, LloydResult, lloyd, nearest_centres, scale_of
from ccscale.features.vectors import Vectors
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
SAMPLE_WORK = 2**42  # of those over the sample before them


@dataclass(frozen=True)
class Work:
    """What k-means does at most; a start ends before where its inertia stays.

    Attributes
    ----------
    starts
        Number of starts.
    sample, sample_passes
        Vectors that each goes over, and how often.
    passes
        How often the best start then goes over all vectors; 0 where the sample is all.
    first_rows
        Vectors that k-means++ looks at.
    """

    starts: int
    sample: int
    sample_passes: int
    passes: int
    first_rows: int


def work_of(rows: int, width: int, clusters: int, starts: int | None = None) -> Work:
    """Return what k-means does with so many vectors of a width; see `k_means`. Pure."""
    sample = min(rows, max(SAMPLE_BYTES // (4 * width), 2 * clusters))
    first = min(sample, max(FIRST_ROWS, FIRST_PER_CLUSTER * clusters))
    a_pass = sample * clusters * width
    starts = starts or next((number for most, number in STARTS if a_pass <= most), 1)
    if sample == rows:
        return Work(starts, sample, PASSES, 0, first)
    of_sample = min(PASSES, max(5, SAMPLE_WORK // (starts * a_pass)))
    return Work(starts, sample, of_sample, min(PASSES, max(2, WORK // (rows * clusters * width))), first)


@dataclass(frozen=True)
class Means:
    """The result of k-means for n vectors of width D.

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
        raise InputError(f"{len(vectors):,} images are too few for {clusters:,} clusters: use fewer")
    device = device or torch.device("cpu")
    work = work_of(len(vectors), vectors.width, clusters, starts)
    sample = vectors
    if work.passes:
        chosen = np.random.default_rng(seed).choice(len(vectors), work.sample, replace=False)
        sample = vectors.subset(np.sort(chosen))
    blocks = Blocks(sample, device, keep=True)
    scale = scale_of(blocks, len(vectors))
    best: LloydResult | None = None
    with Meter("k-means", work.starts, "starts", show and dist.rank() == 0) as meter:
        for start in range(work.starts):
            centres = first_centres(sample, clusters, (seed, start), work.first_rows).to(device)
            found = lloyd(blocks, centres, scale, spherical, work.sample_passes)
            best = found if best is None or found.inertia < best.inertia else best
            meter.advance()
    assert best is not None
    passes = best.passes
    if work.passes:
        blocks = Blocks(vectors, device, keep=False)
        scale = scale_of(blocks, len(vectors))
        best = lloyd(blocks, best.centres, scale, spherical, work.passes, show)
        passes += best.passes
    return _assigned(blocks, best.centres, passes, len(vectors))


def first_centres(vectors: Vectors, clusters: int, seed: tuple[int, int], rows: int) -> Tensor:
    """Return centres by k-means++ on so many of the vectors; both follow from the seed. All ranks call it."""
    from sklearn.cluster import kmeans_plusplus

    def choose() -> NDArray[np.float32]:
        generator = np.random.default_rng(seed)
        places = np.sort(generator.choice(len(vectors), rows, replace=False))
        part = vectors.take(places).numpy()
        return kmeans_plusplus(part, clusters, random_state=int(generator.integers(2**31)))[0]

    return torch.from_numpy(dist.on_rank_zero(choose))


def _assigned(blocks: Blocks, centres: Tensor, passes: int, rows: int) -> Means:
    """Assign all vectors to the centres; return the result on every rank."""
    # Made before the loop: what is kept of each block would keep the heap from using the place of others again.
    clusters, distances, spans = np.empty(rows, np.int64), np.empty(rows, np.float32), []
    for start, block in blocks:
        nearest, span = nearest_centres(block, centres), slice(start, start + len(block))
        clusters[span] = nearest.cpu().numpy()
        distances[span] = (block - centres[nearest]).norm(dim=1).cpu().numpy()
        spans.append(span)
    for some in dist.all_objects([(span, clusters[span], distances[span]) for span in spans]):
        for span, nearest_, far in some:
            clusters[span], distances[span] = nearest_, far
    inertia = float(np.square(distances, dtype=np.float64).sum())
    return Means(centres.cpu().numpy(), clusters, distances, inertia, passes)
