"""All images of the clusters of a page: which are listed, and which have pictures."""

import base64
import json
import zlib

import numpy as np
from harness.report_examples import example
from hypothesis import given
from hypothesis import strategies as st

from ccscale.report import members as module
from ccscale.report.clusters import choose_images
from ccscale.report.members import fair, list_members


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 200))
def test_a_budget_is_shared_out_fairly(sizes, budget):
    found = fair(np.array(sizes, dtype=np.int64), budget)
    limit = max(found, default=0)
    assert all(count in (size, limit) for count, size in zip(found, sizes, strict=True))
    assert sum(found) <= budget or limit == 0
    more = [min(size, limit + 1) for size in sizes]
    assert more == found or sum(more) > budget


def unpacked(text):
    return json.loads(zlib.decompress(base64.b64decode(text), -15))


def check(one, found, pictures):
    told = found.describe()
    lists = {int(name[5:]): unpacked(text) for name, text in found.blocks(one.table)}
    own = sum(len(chosen.rows) for chosen in found.chosen)
    assert sum(told["pictures"]) <= max(pictures, own)
    for cluster, listed in lists.items():
        inside = np.flatnonzero(one.table.clusters == cluster)
        order = inside[np.argsort(-one.table.confidence[inside], kind="stable")][: told["listed"][cluster]]
        assert listed["keys"] == one.table.keys.take(order).to_pylist()
        assert listed["origins"] == one.table.origins.take(order).to_pylist()
        assert listed["labels"] == one.table.labels[order].tolist()
        rows = np.concatenate(
            [found.chosen[cluster].rows]
            + [rows for name, rows in found.sheets() if name.startswith(f"more-{cluster}-")]
        )
        assert len(rows) == told["pictures"][cluster]
        for row, picture in zip(order, listed["pictures"], strict=True):
            assert picture < 0 or rows[picture] == row


def test_every_image_is_listed_with_its_picture_where_there_is_room():
    one = example()
    found = list_members(one.table, choose_images(one.table, 12))
    check(one, found, module.PICTURES)
    sizes = np.bincount(one.table.clusters[1:], minlength=12).tolist()
    assert found.describe()["listed"] == found.describe()["pictures"] == sizes


def test_where_there_is_none_each_cluster_has_as_many(monkeypatch):
    monkeypatch.setattr(module, "LISTED", 330)
    monkeypatch.setattr(module, "PAGE", 3)
    one = example()
    chosen = choose_images(one.table, 12)
    found = list_members(one.table, chosen, 300)
    check(one, found, 300)
    listed = found.describe()["listed"]
    assert 320 < sum(listed) <= 330
    none = list_members(one.table, chosen, 0)
    assert not list(none.sheets())
