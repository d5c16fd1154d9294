"""The timeline of living clusters: births, merges and splits, sizes, and open proposals, by version."""

import base64
import math
from typing import Any

import numpy as np

from ccscale.clusters.drift import ALARM
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.version import Version
from ccscale.report.encoding import rounded
from ccscale.report.newest import newest

VERSIONS = 200  # the newest of them are told
SHARDS = 1_000
SHEETS = 2**23  # bytes of pictures of proposals, in all


def timeline(lineage: Lineage) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return what the page says of living clusters, and the blocks of its pictures.

    Returns
    -------
    dict
        ``run``; ``current``, the number of the version; ``versions`` on the way to it, the oldest first, and how
        many are ``left_out`` before these, and which were ``rolled_back``; ``sizes``, images by cluster (its id) in
        each version, None where there was none of it; ``names`` by id; ``shards``, what came in and how far it had
        drifted; ``proposals`` that are open; ``newest``, as `newest` has it; ``alarm``, from which
        shifts on there are alarms.
    list of (str, str)
        Names and contents of blocks: a PNG in base64 of each proposal that has one, as far as `SHEETS` goes, and
        those of `newest`.
    """
    chain = lineage.chain()
    shown = chain[-VERSIONS:]
    pictures, blocks, room = lineage.pictures(), [], SHEETS
    proposals = []
    for one in lineage.current.open:
        told = one.model_dump(mode="json", include={"id", "kind", "ids", "images", "since", "sentence"})
        told["facts"] = {name: _short(value) for name, value in one.facts.items()}
        picture = pictures[one.id].read_bytes() if one.id in pictures else b""
        room -= len(picture)
        if picture and room >= 0:
            blocks.append((f"proposal-{one.id}", base64.b64encode(picture).decode()))
            told["picture"] = True
        proposals.append(told)
    shards = [
        {
            "version": version.number,
            "data": table.data,
            "shard": table.name,
            "images": table.rows,
            "unassigned": table.unassigned,
            "drift": {name: _short(value) for name, value in table.drift.items()},
        }
        for version in shown
        for table in version.tables
        if version.why != "init"
    ]
    new, sheets = newest(lineage)
    on_chain = {version.number for version in chain}
    return {
        "run": str(lineage.run),
        "current": lineage.number,
        "versions": [_describe(version) for version in shown],
        "left_out": len(chain) - len(shown),
        "rolled_back": [number for number in lineage.numbers if number not in on_chain],
        "sizes": _sizes(lineage, shown),
        "names": {str(one): name for one, name in lineage.names().items()},
        "shards": shards[-SHARDS:],
        "proposals": proposals,
        "newest": new,
        "alarm": ALARM,
    }, blocks + sheets


def _describe(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "when": version.when,
        "why": version.why,
        "asked": version.asked,
        "new": sum(table.rows for table in version.tables),
        "new_unassigned": sum(table.unassigned for table in version.tables),
        "data": sorted({table.data for table in version.tables}),
        "changed": version.changed,
        "events": [
            event.model_dump(mode="json", include={"kind", "ids", "others", "images", "sentence"})
            for event in version.events
        ],
        "alarms": version.alarms,
        "open": len(version.open),
        **{name: version.counts.get(name, 0) for name in ("images", "assigned", "unassigned")},
    }


def _sizes(lineage: Lineage, versions: list[Version]) -> dict[str, list[int | None]]:
    """Return the images of each cluster in each version; a state is read where it has changed."""
    found: dict[str, list[int | None]] = {}
    of: dict[int, int] = {}
    state = None
    for place, version in enumerate(versions):
        if state != version.files["state"]:
            state, read = version.files["state"], lineage.state(version.number)
            ids, which = np.unique(read.ids, return_inverse=True)
            totals = np.bincount(which, read.sizes).astype(np.int64)
            of = dict(zip(ids.tolist(), totals.tolist(), strict=True))
        for one, size in of.items():
            found.setdefault(str(one), [None] * len(versions))[place] = size
    return found


def _short(value: Any) -> Any:
    return rounded(value, 4) if isinstance(value, float) and math.isfinite(value) else value
