"""The measures of tools/mixing.py on orders whose figures are known, and what they say of ccscale's defaults."""

import io
import json
import tarfile

import numpy as np
import pytest
import webdataset as wds
from mixing import SETS, DataSet, Int64, buffered, main, measure, permuted, rows, scheduled

from ccscale.data.order.schedule import default_piece

DATA = DataSet(200_000, 200, 20)  # more than is permuted sample by sample


def as_read(data: DataSet) -> Int64:
    return np.arange(data.steps * data.batch).reshape(data.steps, data.batch)


def test_an_order_that_is_not_shuffled():
    data = DataSet(1000, 10, 5, batch=50)
    figures = measure(data, lambda epoch: as_read(data))
    # All 50 of a batch are of one class of ten: chi-square 45**2 / 5 + 9 * 5 = 450, with 9 degrees of freedom.
    assert (figures.classes, figures.clumping) == (1, 50)
    assert (figures.neighbours, figures.met_again) == (49, 50 * 49 / 2)
    assert figures.correlation == pytest.approx(1)
    # 16 successive batches are 100 samples of each of eight classes, where 80 are expected, and none of two.
    assert figures.clumping_together == pytest.approx((8 * 20**2 + 2 * 80**2) / 80 / 9)


def test_an_order_of_evenly_dealt_classes():
    data = DataSet(1000, 10, 5, batch=50)
    orders = [as_read(data).reshape(50, 20).T, as_read(data)[::-1]]
    figures = measure(data, lambda epoch: orders[epoch])
    assert (figures.classes, figures.clumping, figures.clumping_together) == (10, 0, 0)
    assert figures.neighbours == 0
    # Those 20 apart come in twos and threes, ten times each, in the runs of 50 of the next epoch.
    assert figures.met_again == 10 * 1 + 10 * 3


def test_a_full_permutation_is_the_unit():
    figures = measure(DATA, permuted(DATA, 0))
    assert figures.clumping == pytest.approx(1, abs=0.02)
    assert figures.clumping_together == pytest.approx(1 - 16 * 256 / DATA.samples, abs=0.04)
    assert figures.neighbours == pytest.approx(256 * 255 / DATA.samples, abs=0.1)
    assert figures.met_again == pytest.approx(256 * 255 / 2 * 255 / DATA.samples, rel=0.03)
    assert abs(figures.correlation) < 0.01


def test_the_defaults_mix_sorted_shards_nearly_as_a_full_permutation_does():
    small, large = SETS["small"], DATA
    assert (default_piece(small.sizes), default_piece(large.sizes)) == (1, 4)
    figures = measure(small, scheduled(small, 0, 1))
    assert figures.clumping == pytest.approx(1, abs=0.03)
    assert figures.clumping_together == pytest.approx(0.96, abs=0.05)
    figures = measure(large, scheduled(large, 0, 4))
    assert figures.clumping == pytest.approx(1, abs=0.2)
    assert figures.clumping_together < 3.5
    assert figures.met_again == pytest.approx(256 * 255 / 2 * 255 / large.samples, rel=0.1)
    assert abs(figures.correlation) < 0.02


def test_whole_shards_and_buffers_mix_them_much_less():
    shards = measure(DATA, scheduled(DATA, 0, None))
    buffer = measure(DATA, buffered(DATA, 0, 5000))
    assert shards.clumping_together > 5
    assert buffer.clumping > 5
    assert buffer.neighbours > 3
    assert buffer.classes < 0.5 * shards.classes


@pytest.fixture
def tars(tmp_path) -> list[str]:
    """Six shards of twenty samples; a sample's key is its number."""
    for shard in range(6):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for sample in range(20 * shard, 20 * shard + 20):
                member = tarfile.TarInfo(f"{sample}.txt")
                member.size = 1
                tar.addfile(member, io.BytesIO(b"x"))
    return [str(tmp_path / f"{shard}.tar") for shard in range(6)]


def test_buffered_is_what_webdataset_reads(tars):
    real = wds.WebDataset(tars, shardshuffle=100, seed=0).shuffle(30, seed=1)
    keys = [int(sample["__key__"]) for sample in real]
    assert sorted(keys) == list(range(120)) != keys
    order = buffered(DataSet(120, 3, 6, batch=10), 0, 30)(0)
    assert order.ravel().tolist() == keys


@pytest.mark.parametrize("again", [0, 25])
def test_buffered_loaders_read_each_sample_once(again):
    data = DataSet(120, 3, 6, batch=10)
    order = buffered(data, 3, 15, workers=3, again=again)
    assert sorted(order(0).ravel()) == list(range(120))
    assert not np.array_equal(order(0), order(1))
    if not again:  # batches from the loaders in turn, and each loader has two of the six shards
        shards = order(0) // 20
        assert [set(batch % 3) for batch in shards] == [{0}, {1}, {2}] * 4


def test_prints_a_table_and_json(monkeypatch, capsys):
    data = DataSet(140_000, 20, 70, batches=40)
    monkeypatch.setattr("mixing.SETS", {"tiny": data})
    monkeypatch.setattr("sys.argv", ["mixing.py", "--json", "--seed", "3"])
    assert main() == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seed"] == 3
    by_name = {row["order"]: row for row in result["sets"]["tiny"]}
    assert list(by_name)[:2] == ["full permutation", "ccscale, defaults"]
    assert by_name["ccscale, defaults"]["reads"] == 4
    assert by_name["ccscale, defaults"]["correlation"] is None
    assert by_name["ccscale, defaults"]["clumping"] == pytest.approx(1, abs=0.15)
    assert by_name["WebDataset, shuffle(1000), 1 loader"]["clumping"] > 5
    monkeypatch.setattr("sys.argv", ["mixing.py", "--seed", "3"])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny: 140,000 samples of 20 classes in 70 shards, global batch 256")
    assert len([line for line in lines if line]) == 3 + len(list(rows(data, 3)))
