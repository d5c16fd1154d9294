"""One run's clusters by another's, matched by the images' keys."""

import numpy as np
import pytest
from harness.report_examples import example
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from ccscale.errors import InputError
from ccscale.evaluate.table import Assignments
from ccscale.report.comparison import compare


def test_counts_follow_the_keys_in_any_order():
    one, other = example(0), example(1, clusters=7)
    order = np.random.default_rng(3).permutation(400)[:300]  # other has fewer images, in another order
    table = other.table
    shuffled = example(
        1,
        clusters=7,
        table=Assignments(
            table.keys.take(order), table.clusters[order], table.confidence[order], table.labels[order]
        ),
    )
    found = compare(one, shuffled)
    pairs = [
        (one.table.clusters[i], table.clusters[i])
        for i in order
        if one.table.clusters[i] >= 0 and table.clusters[i] >= 0
    ]
    assert found["images"] == len(pairs)
    ours, theirs = map(list, zip(*pairs, strict=True))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(ours, theirs), abs=1e-4)
    assert found["ari"] == pytest.approx(adjusted_rand_score(ours, theirs), abs=1e-4)
    assert found["sizes"] == np.bincount(ours, minlength=12).tolist()
    for cluster, row in enumerate(found["rows"]):
        assert dict(row) == {
            column: pairs.count((cluster, column)) for column in range(7) if (cluster, column) in pairs
        }


def test_nothing_in_common():
    one = example(0)
    table = one.table
    other = example(1, shards="elsewhere", table=Assignments(table.keys.take([0]), *(np.zeros(1, int),) * 3))
    with pytest.raises(
        InputError, match=r"no image in common \(shards nowhere and elsewhere\); compare runs"
    ):
        compare(one, other)
