"""Pairs of similar rows of a store, from their neighbours, and the connected groups that they form."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ccscale.array_types import Float32, Int64
from ccscale.features.store import Features

BLOCK = 2**16


class NearPairs(NamedTuple):
    """Pairs of rows with a cosine of at least some threshold, each once.

    Attributes
    ----------
    first, second
        (p,): the rows, the lower one first; by the first, then by the second.
    cosines
        (p,).
    crowded
        Rows all of whose neighbours are above the threshold: they may be alike to more than are known.
    """

    first: Int64
    second: Int64
    cosines: Float32
    crowded: Int64


def near_pairs(features: Features, above: float) -> NearPairs:
    """Return the pairs among the neighbours that a store keeps; raises InputError where it keeps none."""
    found: list[tuple[Int64, Int64, Float32]] = []
    crowded = [np.empty(0, np.int64)]
    for start in range(0, features.rows, BLOCK):
        rows = np.arange(start, min(start + BLOCK, features.rows))
        near, cosines = features.neighbours_and_cosines(rows)
        alike = (cosines >= above) & (near >= 0)
        crowded.append(rows[alike.all(axis=1)])
        row, column = np.nonzero(alike)
        own, other = rows[row], near[row, column]
        found.append((np.minimum(own, other), np.maximum(own, other), cosines[row, column]))
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((second, first))
    first, second, cosine = first[order], second[order], cosine[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return NearPairs(first[new], second[new], cosine[new], np.concatenate(crowded))


def groups_of(pairs: NearPairs, rows: int) -> list[Int64]:
    """Return groups of rows that hang together by pairs: each rising, the largest first, then the lowest row."""
    if not len(pairs.first):
        return []
    graph = coo_array((np.ones(len(pairs.first), np.int8), (pairs.first, pairs.second)), (rows, rows))
    _, component = connected_components(graph, directed=False)
    members = np.unique(np.concatenate([pairs.first, pairs.second]))
    members = members[np.argsort(component[members], kind="stable")]
    starts = np.flatnonzero(np.diff(component[members])) + 1
    return sorted(np.split(members, starts), key=lambda group: (-len(group), group[0]))
