"""Descriptions of a lineage, for the command line: all versions, one version, the differences of two."""

from collections import Counter
from typing import Any

import numpy as np

from ccscale.clusters.lineage import Lineage
from ccscale.clusters.tables import BAD, TablesAt
from ccscale.clusters.version import Version


def describe_versions(lineage: Lineage, every: bool = False) -> list[dict[str, Any]]:
    """Describe the versions that led to the current one, the oldest first, or `every` version."""
    on_chain = {version.number for version in lineage.chain()}
    numbers = lineage.numbers if every else sorted(on_chain)
    return [
        _facts(lineage.version(number))
        | {"current": number == lineage.number, "rolled_back": number not in on_chain}
        for number in numbers
    ]


def describe_version(lineage: Lineage, number: int | None = None) -> dict[str, Any]:
    """Describe a version with its clusters and open proposals."""
    version = lineage.version(number)
    state = lineage.state(number)
    came = {
        one: (at.number, event.kind)
        for at, event in lineage.events(number)
        if event.kind in ("founded", "born", "split")
        for one in event.ids
    }
    names = lineage.names()
    pictures = {key: str(path) for key, path in lineage.pictures(number).items()}
    clusters = [
        {
            "id": one,
            "name": names.get(one),
            "images": state.size_of(one),
            "version": came.get(one, (None, None))[0],
            "how": came.get(one, (None, None))[1],
        }
        for one in state.clusters.tolist()
    ]
    proposals = [one.model_dump(mode="json") | {"picture": pictures.get(one.id)} for one in version.proposals]
    facts = _facts(version) | {
        "current": version.number == lineage.number,
        "basis": version.basis.model_dump(),
    }
    return facts | {"clusters": clusters, "proposals": proposals, "path": str(lineage.run)}


def describe_changes(lineage: Lineage, old: int, new: int) -> dict[str, Any]:
    """Describe the changes between two versions.

    Returns
    -------
    dict
        ``old``, ``new``; ``added`` and ``removed``, the versions that only one of the chains has, as in
        `describe_versions`; ``images``, by how many the newer one has more, and how many of these are
        ``unassigned``; ``changed``, the number of images in both with different ids, and ``moves`` (from, to,
        images), the most frequent first; ``born`` and ``gone``, the ids that only one of them has.
    """
    chains = {number: lineage.chain(number) for number in (old, new)}
    numbers = {number: {version.number for version in chain} for number, chain in chains.items()}
    added = [version for version in chains[new] if version.number not in numbers[old]]
    removed = [version for version in chains[old] if version.number not in numbers[new]]
    moves = Counter[tuple[int, int]]()
    if any(version.renamed or version.changes for version in (*added, *removed)):
        before = {shard.table.number: shard.ids for shard in TablesAt(lineage, old)}
        for shard in TablesAt(lineage, new):
            if (was := before.get(shard.table.number)) is not None:
                pairs = np.stack([was, shard.ids])[:, was != shard.ids]
                found, counts = np.unique(pairs, axis=1, return_counts=True)
                moves.update(dict(zip(map(tuple, found.T.tolist()), counts.tolist(), strict=True)))
    ids = {number: set(lineage.state(number).clusters.tolist()) for number in (old, new)}
    counts_of = {number: lineage.version(number).counts for number in (old, new)}
    tables = [table for version in added for table in version.tables]
    return {
        "old": old,
        "new": new,
        "added": [_facts(version) for version in added],
        "removed": [_facts(version) for version in removed],
        "images": counts_of[new]["images"] - counts_of[old]["images"],
        "unassigned": sum(table.unassigned for table in tables),
        "changed": sum(moves.values()),
        "moves": [
            {"from": None if was == BAD else was, "to": None if now == BAD else now, "images": images}
            for (was, now), images in moves.most_common()
        ],
        "born": sorted(ids[new] - ids[old]),
        "gone": sorted(ids[old] - ids[new]),
    }


def _facts(version: Version) -> dict[str, Any]:
    new = version.tables
    return {
        "version": version.number,
        "parent": version.parent,
        "when": version.when,
        "why": version.why,
        "asked": version.asked,
        "new": sum(table.rows for table in new),
        "new_unassigned": sum(table.unassigned for table in new),
        "data": sorted({table.data for table in new}),
        "changed": version.changed,
        "events": [event.model_dump(mode="json") for event in version.events],
        "open": len(version.open),
        "alarms": version.alarms,
        **version.counts,
    }
