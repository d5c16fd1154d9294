"""Images of the last update, with pictures where their shards can be read."""

import base64
import io

import numpy as np
from harness.lineages import commit
from PIL import Image

from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.version import refs_of
from ccscale.draw.tiles import COLUMNS
from ccscale.report import newest as module
from ccscale.report.newest import newest


def test_pictures_of_new_images_alone(tmp_path, monkeypatch):
    commit(tmp_path, "init", [[0, 1, 2, 3]])
    commit(tmp_path, "update", [[0, 1, -1, -1]])
    lineage = open_lineage(tmp_path)
    new, old = refs_of(1, np.arange(4)), refs_of(0, np.arange(4))
    features = np.zeros((4, 4), np.float16)
    pool = Pool.empty(4).taken(
        features[:2].astype(np.float32), new[2:], np.zeros(2, int), np.ones(2, np.float32), 2, 0
    )[0]
    kept = Reservoir(features, np.concatenate([old[:2], new[:2]]), np.array([0, 1, 0, 1]))
    monkeypatch.setattr(lineage, "pool", lambda: pool)
    monkeypatch.setattr(lineage, "reservoir", lambda: kept)
    tile = lambda self, ref, side: None if ref == new[3] else np.full((side, side, 3), ref % 256, np.uint8)  # noqa: E731
    monkeypatch.setattr(module.Images, "tile", tile)
    told, blocks = newest(lineage)
    assert told == {"unassigned": [-1], "assigned": [0, 1]}  # one cannot be read
    sheets = {name: Image.open(io.BytesIO(base64.b64decode(text))) for name, text in blocks}
    assert sheets.keys() == {"newest-unassigned", "newest-assigned"}
    assert all(sheet.size == (COLUMNS * module.SIDE, module.SIDE) for sheet in sheets.values())


def test_a_lineage_without_updates(tmp_path):
    commit(tmp_path, "init", [[0, 1, 2, 3]])
    assert newest(open_lineage(tmp_path)) == ({}, [])
