"""Which images' features are kept, and what is written of them."""

import numpy as np
import pytest
import torch

from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.whole_images import WholeBatch
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.basis import Basis
from ccscale.evaluate.feature_subset import FeatureSubset, SubsetTally, choose_rows, numbers_in_all
from ccscale.model.network import Outputs


@pytest.mark.parametrize(
    ("total", "limit", "count"), [(10, 10, 10), (10, 4, 4), (0, 4, 0), (10**9, 1000, 1000)]
)
def test_rows_follow_from_the_seed(total, limit, count):
    rows = choose_rows(total, 3, limit)
    assert len(set(rows.tolist())) == len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert (rows < total).all()
    assert (choose_rows(total, 3, limit) == rows).all()
    if count < total:
        assert (choose_rows(total, 4, limit) != rows).any()


def batch(samples: np.ndarray, bad: int) -> Assigned:
    features = torch.from_numpy(samples).float()[:, None] * torch.tensor([1.0, -2.0])
    n = len(samples)
    read = WholeBatch(torch.zeros(n, 1, 1, 3), samples, ("",) * n, samples % 5, samples == bad, ())
    none = np.zeros(n)
    return Assigned(read, Outputs(features, features[:, :1], features), none, none, none, none)


@pytest.mark.parametrize("rows", [np.arange(0, 60, 3), np.array([59]), np.arange(60), np.array([], np.int64)])
def test_of_two_ranks_in_the_order_of_the_samples(rows):
    parts = []
    for mine in ([np.arange(40, 60), np.arange(10)], [np.arange(10, 40)]):
        tally = SubsetTally(rows, (2, 1))
        for samples in mine:
            tally.add(batch(samples, bad=12))
        parts.append(tally.subset())
    found = FeatureSubset.join(parts)
    expected = [row for row in rows.tolist() if row != 12]
    assert found.rows.tolist() == expected
    assert found.labels.tolist() == [row % 5 for row in expected]
    assert found.backbone.tolist() == [[row, -2 * row] for row in expected]
    assert found.instance.tolist() == [[row] for row in expected]


def test_an_image_has_one_number_in_whatever_splits_it_is_counted():
    shards = [("a", 3), ("b", 0), ("b", 4), ("a", 0), ("a", 2), ("c", 1), ("b", 5)]
    shards = tuple(Shard(f"{i}.tar", count, 1, "0" * 64, split) for i, (split, count) in enumerate(shards))
    manifest = Manifest("", "", shards, (), (), {}, {})
    numbers = {split: [] for split in "abc"}
    number = 0
    for shard in shards:
        numbers[shard.split] += range(number, number + shard.nsamples)
        number += shard.nsamples
    for splits in (["a"], ["b"], ["c"], ["a", "b"], ["b", "c"], ["a", "b", "c"]):
        expected = sorted(number for split in splits for number in numbers[split])
        assert numbers_in_all(manifest, splits, np.arange(len(expected))).tolist() == expected


def test_file(tmp_path):
    backbone = np.array([[1, 0.5], [1e9, -1e9]], np.float32)
    basis = Basis(3, "a" * 64, ("train", "val"), "b" * 64)
    FeatureSubset(np.array([3, 7]), np.zeros(2), backbone, backbone).save(tmp_path / "features.npz", basis)
    with np.load(tmp_path / "features.npz", allow_pickle=False) as arrays:
        assert (arrays["rows"].dtype, arrays["features"].dtype) == (np.int64, np.float16)
        assert arrays["rows"].tolist() == [3, 7]
        assert arrays["features"].tolist() == [[1, 0.5], [65504, -65504]]
        assert Basis.parse(str(arrays["basis"])) == basis
