"""The images of the last update for the report: those that got a cluster, and those that fit none."""

from typing import Any

import numpy as np

from ccscale.clusters.images import Images
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.version import tables_and_rows
from ccscale.draw.tiles import encode_sheet

SHOWN = 48  # of each kind
SIDE = 80


def newest(lineage: Lineage) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return which images of the last update can be shown, and the blocks of their pictures.

    Returns
    -------
    dict
        ``unassigned`` and ``assigned``: of each picture the id of the image's cluster, -1 for none; empty where no
        shard can be read.
    list of (str, str)
        A sheet of each that has pictures: ``newest-unassigned``, ``newest-assigned``.
    """
    updates = [version for version in lineage.chain() if version.tables and version.why != "init"]
    if not updates:
        return {}, []
    tables = {number: table for number, (_, table) in lineage.tables().items()}
    images = Images(tables, lineage.current.data)
    numbers = [table.number for table in updates[-1].tables]
    pool, reservoir = lineage.pool(), lineage.reservoir()
    told, blocks = {}, []
    for kind, refs, ids in (
        ("unassigned", pool.refs, np.full(len(pool), -1)),
        ("assigned", reservoir.refs, reservoir.ids),
    ):
        new = np.flatnonzero(np.isin(tables_and_rows(refs)[0], numbers))
        chosen = new[np.linspace(0, len(new) - 1, min(len(new), SHOWN)).round().astype(np.int64)]
        tiles = [(one, images.tile(int(refs[one]), SIDE)) for one in chosen]
        there = [(one, tile) for one, tile in tiles if tile is not None]
        told[kind] = [int(ids[one]) for one, _ in there]
        if there:
            blocks.append((f"newest-{kind}", encode_sheet(np.stack([tile for _, tile in there]))))
    return told, blocks
