"""Unassigned images once the cluster that they lay beside was born."""

import numpy as np

from ccscale.clusters.applying import apply_proposals, settled
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.reservoir import Pool
from tests.clusters.blobs import WIDTH, blobs

NONE = np.empty(0, np.int64)


def test_what_lay_beside_a_birth_gets_a_cluster_and_what_lies_among_its_own_kind_stays():
    features, classes = blobs([0, 1], 100, seed=0)
    sure = np.ones(200, np.float32)
    state, reservoir, _ = make_initial_state(features, classes, sure, np.arange(200), k=2, seed=0)
    more, kinds = blobs([0, 5, 6], 60, seed=1)  # of a known kind, of one that is born, and of one that is not
    refs, heads = np.arange(1_000, 1_180), np.where(kinds == 0, 0, 1)
    pool, _ = Pool.empty(WIDTH).taken(more, refs, heads, np.ones(180, np.float32), 2, 0)
    born = apply_proposals(Proposal("birth", (), refs[60:110], {}, ""), state, pool, reservoir, 2, 0)
    got, ids = settled(born.state, born.reservoir, born.pool, NONE, 0)
    by_kind = {kind: ids[np.isin(got, refs[kinds == kind])].tolist() for kind in (0, 5, 6)}
    assert (set(by_kind[0]), set(by_kind[5]), by_kind[6]) == ({0}, {2}, [])
    assert len(by_kind[0]) > 50
    assert len(by_kind[5]) >= 8
    kept, _ = settled(born.state, born.reservoir, born.pool, got[:3], 0)  # of a birth that waits
    assert np.setdiff1d(got, kept).tolist() == got[:3].tolist()
