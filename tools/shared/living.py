"""Living clusters as somebody keeps them for days: commands one after the other, each again where it was killed,
by all ranks together.

OUT/            a copy of a run with living clusters (of version 1)
OUT/steps.json  how many commands have come to their end
"""

import hashlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccscale import atomic, dist
from ccscale.cli.main import main
from ccscale.clusters import assigning, proposal_search
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.tables import full_table
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

STEPS = "steps.json"


def live_on() -> None:
    """Go on with ``ccscale RUN DAY1 DAY2 OUT``, of which no such command is; leaves `lineage log` to be done."""
    run, first, second, out = map(Path, sys.argv[1:])
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    proposal_search.births, proposal_search.splits, assigning.FAR = (
        _births,
        _splits,
        0.7,
    )  # so that some fit nowhere
    commands = [
        ["update", out, "--shards", first],
        ["lineage", "accept", out, "p1"],
        ["lineage", "refuse", out, "p2"],
        ["update", out, "--shards", second, "--apply", "births"],
        ["lineage", "rollback", out, "2"],
        ["update", out, "--shards", second],
        ["update", out, "--reassign"],
        ["lineage", "rollback", out, "6"],
    ]
    with process_group(RankEnvironment.read(), torch.device("cpu")):
        done = dist.on_rank_zero(lambda: _begun(run, out))
        for number, command in enumerate(commands[done:], start=done + 1):
            # What rolls back is one process, as nothing is computed; the others wait until it has ended.
            alone = command[1] == "rollback" and dist.rank() > 0
            if code := 0 if alone else main([str(word) for word in command]):
                os._exit(code)
            dist.on_rank_zero(partial(_note, out, number))
    sys.argv = ["ccscale", "lineage", "log", str(out)]


def clusters_and_tables(out: Path) -> dict[str, Any]:
    """Return the SHA-256 of every file of the clusters."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((out / "clusters").rglob("*"))
        if path.is_file()
    }


def what_lives(out: Path) -> dict[str, Any]:
    """Return which version is current; refuses one that is not whole, or has an image twice."""
    if not (out / STEPS).exists():
        return {}
    lineage = open_lineage(out)
    for name in ("state", "pool", "reservoir", "proposals"):
        lineage.arrays(name)
    keys = [
        key
        for table in full_table(lineage, lineage.number)
        for key in zip(table["data_set"].to_pylist(), table["key"].to_pylist(), strict=True)
    ]
    assert len(keys) == len(set(keys)) == lineage.current.counts["images"]
    steps, pending = json.loads((out / STEPS).read_text()), (out / "clusters" / ".update").exists()
    return {"steps": steps, "version": lineage.number, "images": len(keys), "pending": pending}


def is_under_way(out: Path, first: int, ahead: int) -> bool:
    """Tell whether a version is being made, or more than so many commands have ended since the first."""
    if not (out / STEPS).exists():
        return False
    done, ends = json.loads((out / STEPS).read_text()), first + ahead
    return done > ends or (done == ends and (out / "clusters" / ".update").exists())


def _begun(run: Path, out: Path) -> int:
    """Make the copy, where it is not there; return how many commands have come to their end."""
    if not (out / STEPS).exists():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(run, out)
        _note(out, 0)
    return int(json.loads((out / STEPS).read_text()))


def _note(out: Path, done: int) -> None:
    atomic.write_bytes(out / STEPS, json.dumps(done).encode())


def _births(new_images: object, state: object, reservoir: object, pool: Any) -> list[Proposal]:
    """Propose all images without a cluster: there may be few."""
    return [Proposal("birth", (), pool.refs, {}, "all of them")] if len(pool) > 1 else []


def _splits(state: Any, reservoir: Any) -> list[Proposal]:
    """Propose to divide the largest cluster."""
    largest = max(state.clusters.tolist(), key=state.size_of)
    refs = reservoir.refs[reservoir.ids == largest]
    parts = (np.arange(len(refs)) % 3 == 0).astype(np.int64)
    return [Proposal("split", (largest,), refs, {}, "two of three, and one", parts)]
