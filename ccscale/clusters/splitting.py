"""Splits: clusters that were one, and have come apart: there is a valley within, and there was none. Pure."""

import numpy as np

from ccscale.clusters.apart import halves, no_valley
from ccscale.clusters.groups import LEAST, VALLEY
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.reservoir import Reservoir
from ccscale.clusters.state import State

WHOLE = 0.05  # the chance of a valley by chance from which on a cluster counted as one


def splits(state: State, reservoir: Reservoir) -> list[Proposal]:
    """Propose to divide clusters, each into two."""
    rows, found = state.space(reservoir.features), []
    for cluster in state.clusters.tolist():
        of = np.flatnonzero(reservoir.ids == cluster)
        if state.whole[state.ids == cluster].min() < WHOLE or len(of) < 2 * LEAST:
            continue
        first, second = halves(rows[of])
        if len(second) < LEAST:
            continue
        chance = no_valley(rows[of[first]], rows[of[second]])
        if chance > VALLEY:
            continue
        parts = np.zeros(len(of), np.int64)
        parts[second] = 1
        facts = {"no_valley": chance, "first": len(first), "second": len(second)}
        sentence = (
            f"cluster {cluster}, which was one, has come apart: of {len(of)} of its images {len(first)} and "
            f"{len(second)} lie together, with fewer between"
        )
        found.append(Proposal("split", (cluster,), reservoir.refs[of], facts, sentence, parts))
    return found
