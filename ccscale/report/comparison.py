"""Compares two runs: how the clusters of one map onto the other's, on the images that both have."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from ccscale.errors import InputError
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.metrics import adjusted_rand_index, normalized_mutual_information
from ccscale.report.encoding import rounded
from ccscale.report.inputs import Inputs

CELLS = 50


def compare(one: Inputs, other: Inputs) -> dict[str, Any]:
    """Count the images that both runs have by their clusters.

    Returns
    -------
    dict
        ``images``, ``nmi`` and ``ari`` between the clusterings, ``sizes`` of the clusters of `one`, and ``rows``:
        for each of them the clusters of `other` as (cluster, images), the largest first, `CELLS` at most.

    Raises
    ------
    InputError
        If they have no image in common.
    """
    places = (
        pc.index_in(one.table.keys, value_set=other.table.keys).fill_null(-1).to_numpy(zero_copy_only=False)
    )
    there = (places >= 0) & (one.table.clusters >= 0)
    ours, theirs = one.table.clusters[there], other.table.clusters[places[there]]
    both = theirs >= 0
    ours, theirs = ours[both], theirs[both]
    if not len(ours):
        raise InputError(
            f"the runs {one.name} and {other.name} have no image in common (shards {one.shards} and "
            f"{other.shards}); compare runs evaluated on the same data"
        )
    table = Contingency.of(ours, theirs, one.clusters)
    return {
        "images": len(ours),
        "nmi": rounded(normalized_mutual_information(table)),
        "ari": rounded(adjusted_rand_index(table)),
        "rows": table.largest(CELLS),
        "sizes": np.bincount(ours, minlength=one.clusters).tolist(),
    }
