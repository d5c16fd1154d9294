"""``ccscale predict RUN``: a cluster for every image, as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccscale import dist
from ccscale.evaluate.session import open_session, open_shards
from ccscale.evaluate.table import check_table_path, write_table


def predict_run(
    run: str | Path,
    shards: str,
    out: Path,
    splits: Sequence[str] | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
) -> dict[str, Any] | None:
    """Write ``key``, ``cluster`` and ``confidence`` of every image, each exactly once; all ranks call it together.

    Parameters
    ----------
    run
        The run's folder.
    shards
        Any data set, with labels or without.
    out
        Ends in .parquet or .csv.
    splits
        All by default.
    device, workers
        As in the config.

    Returns
    -------
    dict or None
        On rank 0: ``step``, ``out``, ``images``, ``sizes`` and the other figures that need no labels, and
        ``undecodable`` (lines with key and reason). None elsewhere.

    Raises
    ------
    InputError
        If the run, the data or the table's folder are not there.
    """
    with open_session(run, device, workers) as session:
        dist.on_rank_zero(lambda: check_table_path(out))
        manifest, splits = open_shards(shards, splits)
        found = session.assign(manifest, splits)
    if found is None:
        return None
    write_table(out, found)
    return {
        "step": session.checkpoint.step,
        "out": str(out),
        **found.summary(session.config.model.clusters, labels=False),
        "undecodable": list(found.reasons),
    }
