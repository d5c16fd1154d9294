"""``ccscale evaluate RUN``: the clusters of a run, measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccscale.evaluate.metrics import scores
from ccscale.evaluate.probes import k_means
from ccscale.evaluate.session import open_session, open_shards
from ccscale.evaluate.table import write_table

TABLE = "assignments.parquet"


def evaluate_run(
    run: str | Path,
    shards: str | None = None,
    splits: Sequence[str] | None = None,
    *,
    probe: bool = True,
    device: str = "auto",
    workers: int | None = None,
) -> dict[str, Any] | None:
    """Measure the clusters that a run's newest checkpoint makes of a data set; all ranks call it together.

    The assignments of the run's own data are kept as ``assignments.parquet`` in its folder.

    Parameters
    ----------
    run
        The run's folder.
    shards
        Another data set than the run's.
    splits
        By default those of the config for the run's data, all of another data set.
    probe
        Where there are labels, also score k-means on the backbone's features.
    device, workers
        As in the config.

    Returns
    -------
    dict or None
        On rank 0: ``step``, ``shards``, ``splits``, the figures of `metrics.summarize`, ``undecodable`` (lines
        with key and reason), and ``k_means`` with the scores of the probe. None elsewhere.

    Raises
    ------
    InputError
        If the run or the data are not there.
    """
    with open_session(run, device, workers) as session:
        config = session.config
        own = shards is None
        if own and splits is None:
            splits = config.evaluated_splits
        place = config.data.shards if shards is None else shards
        manifest, splits = open_shards(place, splits, allow_pipe=own and config.data.allow_pipe)
        labelled = any(manifest.labelled.get(split) for split in splits)
        found = session.assign(manifest, splits, features=probe and labelled)
    if found is None:
        return None
    k = config.model.clusters
    result = {
        "step": session.checkpoint.step,
        "shards": place,
        "splits": list(splits),
        **found.summary(k),
        "undecodable": list(found.reasons),
    }
    if found.features is not None:
        known = (found.labels >= 0) & (found.clusters >= 0)
        if known.sum() >= k:
            result["k_means"] = scores(k_means(found.features[known], k, config.seed), found.labels[known], k)
    if own:
        write_table(config.run_folder / TABLE, found, labels=True)
    return result
