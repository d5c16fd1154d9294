"""The graph of a store's nearest neighbours: features smoothed over it, and its spectral coordinates.

Two images are connected if one is among the other's k nearest, with a far larger weight if both are (N_ij = 1 if
j is among the k nearest of i)::

    A = min(N, Nᵀ) + ω max(N, Nᵀ)                        mutual neighbours: 1 + ω; one-sided ones: ω

    smoothing     x_i <- x_i + Σ_j A_ij x_j, brought to length 1; t times
    spectral      the first q eigenvectors of D^-1/2 A D^-1/2, D = diag(Σ_j A_ij): to be brought to length 1, row
                  by row, before k-means (Ng, Jordan and Weiss, "On spectral clustering", 2001)

Mutual neighbours share a cluster more often than one-sided ones do.
"""

from typing import Any

import numpy as np

from ccscale.array_types import Float32, Int64
from ccscale.features.store import Features
from ccscale.features.vectors import unit_rows

NEIGHBOURS = 25  # of each image, at most
ONE_SIDED = 0.1  # ω
ROWS = 8192  # that are smoothed at a time
SPARSE = 4  # nodes of a graph for each coordinate, at least, for a solver of sparse matrices
TOLERANCE = 1e-3  # of eigenvalues, which lie between -1 and 1

Graph = Any  # a scipy.sparse.csr_array: scipy has no types


def near_positions(features: Features, rows: Int64) -> Int64:
    """Return the neighbours (n, k) of some rows (n,), as positions among these; -1: it is not among them."""
    position = np.full(features.rows + 1, -1, np.int64)  # the last one is of a neighbour that is none
    position[rows] = np.arange(len(rows))
    return position[features.neighbours(rows)[:, :NEIGHBOURS]]


def neighbour_graph(near: Int64) -> Graph:
    """Return the graph A, (n, n) float32, of nodes whose neighbours are `near` (n, k); see `near_positions`."""
    from scipy.sparse import csr_array

    joined, n = near >= 0, len(near)
    ends = np.concatenate([[0], np.cumsum(joined.sum(axis=1))])
    directed = csr_array((np.ones(ends[-1], np.float32), near[joined], ends), shape=(n, n))
    other = directed.T.tocsr()
    return (directed.minimum(other) + np.float32(ONE_SIDED) * directed.maximum(other)).tocsr()


def smooth(graph: Graph, vectors: Float32, times: int = 2) -> Float32:
    """Return vectors (n, D) smoothed over their graph; they are brought to length 1 before, too."""
    x = unit_rows(vectors)
    for _ in range(times):
        smoothed = np.empty_like(x)
        for start in range(0, len(x), ROWS):
            part = slice(start, start + ROWS)
            smoothed[part] = unit_rows(x[part] + graph[part] @ x)
        x = smoothed
    return x


def spectral_coordinates(graph: Graph, count: int) -> Float32:
    """Return the first spectral coordinates (n, q) of a graph's nodes, of the largest eigenvalue first; q < n."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import eigsh

    degrees = np.asarray(graph.sum(axis=1)).ravel() + 1e-6
    scale = diags_array(1 / np.sqrt(degrees))
    matrix = (scale @ graph @ scale).astype(np.float32)
    if len(degrees) < SPARSE * count:
        return np.linalg.eigh(matrix.toarray())[1][:, : -count - 1 : -1]
    begin = np.sqrt(degrees).astype(np.float32)  # the first eigenvector of a graph that hangs together
    values, vectors = eigsh(matrix, k=count, which="LA", v0=begin, tol=TOLERANCE)
    return vectors[:, np.argsort(-values, kind="stable")]
