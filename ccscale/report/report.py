"""``ccscale report RUN``: the clusters of a run as one HTML file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ccscale import atomic
from ccscale.checkpoint.lock import FolderLock
from ccscale.draw.tiles import ReadTiles, grey_tiles, tiles_of
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import FORMAT, VERSION
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.rank_environment import RankEnvironment
from ccscale.report.clusters import CLASSES, choose_images, describe
from ccscale.report.comparison import compare
from ccscale.report.curves import advice, panels
from ccscale.report.encoding import rounded
from ccscale.report.inputs import Inputs, read_inputs
from ccscale.report.members import PICTURES, list_members
from ccscale.report.origins import with_origins
from ccscale.report.page import render
from ccscale.report.projection import project
from ccscale.report.timeline import timeline

REPORT = "report.html"
FIGURES = (
    "images",
    "effective_clusters",
    "entropy",
    "largest",
    "confidence",
    "information",
    "stability",
    "labelled",
    "acc",
    "purity",
    "nmi",
    "ari",
    "f",
)


def report_run(
    run: str | Path,
    other: str | Path | None = None,
    out: Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    clusters: int | None = None,
    pictures: int = PICTURES,
    images: str | Path | None = None,
) -> dict[str, Any]:
    """Write the report of a run.

    Parameters
    ----------
    run
        The run's folder.
    other
        A run to compare it with.
    out
        The file; ``report.html`` in the run's folder by default.
    device, workers
        As in the config, for an evaluation that may be needed first.
    clusters
        K, of a run with heads of several; by default the first.
    pictures
        See `members.list_members`.
    images
        The folder that the images came from: pictures then tell whole paths, and lead to the files.

    Returns
    -------
    dict
        ``out`` and ``bytes``.

    Raises
    ------
    InputError
        If a run has no checkpoint, its data are not there, the two have no image in common, or the file cannot be
        written.
    """
    if RankEnvironment.read().world > 1:
        raise InputError(
            "`ccscale report` runs in one process; start it without a launcher, after `ccscale evaluate`"
        )
    path = Path(run) / REPORT if out is None else out
    if out is not None and not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} for {out.name}; create it first")
    with FolderLock(Path(run)) as lock:
        if lock.covers(path):
            run_and_checkpoint(run)  # or it is no run
            lock.take()
        one, reader = read_inputs(run, device, workers, clusters)
        one = replace(one, table=with_origins(one.table, reader, images))
        two = None if other is None else read_inputs(other, device, workers)[0]
        page = build(one, two, grey_tiles if reader is None else tiles_of(reader), pictures)
        lock.check()
        try:
            atomic.write_bytes(path, page)
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error.strerror}); choose another file with --out"
            ) from None
    return {"out": str(path), "bytes": len(page)}


def build(one: Inputs, two: Inputs | None, read_tiles: ReadTiles, pictures: int = PICTURES) -> bytes:
    """Return the HTML of a run's report, beside a second run if there is one.

    Raises
    ------
    InputError
        If the two have no image in common.
    """
    runs = [one] if two is None else [one, two]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names[1] += " (2)"
    chosen = choose_images(one.table, one.clusters)
    data = {
        "runs": [
            {"name": name, "facts": run.facts, "figures": _figures(run)}
            for name, run in zip(names, runs, strict=True)
        ],
        "heads": [_rounded(row) for row in one.evaluation.get("heads", ())],
        "warnings": list(one.evaluation.get("warnings", ())),
        "how_many": advice(one.evaluation.get("how_many")),
        "trust": _rounded(one.evaluation["trust"]) if "trust" in one.evaluation else None,
        "curves": panels([run.metrics for run in runs]),
        "classes": one.classes or _numbers(one),
        "most_classes": CLASSES,
        "clusters": describe(one.table, one.tally, one.points),
        "compare": None if two is None else compare(one, two),
        "names": _names(one),
    }
    blocks: list[tuple[str, str]] = []
    if one.lineage is not None:
        data["lineage"], blocks = timeline(one.lineage)
    plane = None if one.points is None else project(one.points.features)
    return render(one, data, list_members(one.table, chosen, pictures), plane, read_tiles, blocks)


def _names(run: Inputs) -> dict[str, Any]:
    by_hand, by_labels = run.called.by_hand, run.called.by_labels
    return {
        "format": FORMAT,
        "version": VERSION,
        "basis": dict(run.basis),
        "clusters": {} if by_hand is None else by_hand.as_json(),
        "labels": None if by_labels is None else list(by_labels.names),
    }


def _figures(run: Inputs) -> dict[str, Any]:
    found = run.tally.summary()
    if "information" in run.evaluation:
        found["information"] = run.evaluation["information"]
    if "stability" in run.evaluation:
        found["stability"] = run.evaluation["stability"]["stability"]
    return {name: rounded(found[name], 6) for name in FIGURES if name in found} | {
        "used": found["clusters"] - found["empty"],
        "undecodable": run.tally.unassigned,
    }


def _rounded(value: Any) -> Any:
    """Return figures, however deep, as a page holds them."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return rounded(value) if isinstance(value, float) else value


def _numbers(run: Inputs) -> list[str]:
    """Return names for labels whose data set has none."""
    return [str(label) for label in range(int(np.max(run.table.labels, initial=-1)) + 1)]
