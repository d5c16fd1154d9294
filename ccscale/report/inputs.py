"""The inputs of a report, read from a run's folder, and measured first if they are missing or outdated.

::

    RUN/config.yaml  RUN/metrics.jsonl
    RUN/assignments.parquet     key, cluster, confidence, label, where written also second, second_confidence
    RUN/features.npz            rows (n,): rows of that table; features (n, D): of the backbone
    RUN/evaluation.json         where written: what follows from no table, as information and stability
    the data set's shards       the pictures, and the names of the classes

The table, the features and the evaluation carry what they were made of (`evaluate.basis`): an evaluation of
another checkpoint, of another split or of other shards leaves files of the same names.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from ccscale.checkpoint.metrics_file import METRICS, read_lines
from ccscale.clusters.lineage import Lineage, is_living, open_lineage
from ccscale.config import Config
from ccscale.data.reader import SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import Fault, InputError
from ccscale.evaluate.basis import KEY, Basis
from ccscale.evaluate.evaluate import FIGURES, TABLE, evaluate_run
from ccscale.evaluate.feature_subset import FILE
from ccscale.evaluate.heads import serving_head
from ccscale.evaluate.naming import ResolvedNames, resolve_names
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.evaluate.table import Assignments, read_table
from ccscale.evaluate.tally import Tally
from ccscale.features.store import Features
from ccscale.progress import say


@dataclass(frozen=True)
class Points:
    """The backbone's features (n, D) of some rows (n,) of the table."""

    rows: NDArray[np.int64]
    features: NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """A run as its report sees it.

    Attributes
    ----------
    name
        The last two parts of its folder's path.
    facts
        What it was, for people: title and text.
    shards
        Where its images are.
    clusters
        K, empty ones too.
    classes
        Names of the labels.
    table, points
        Assignments, and features.
    metrics
        The lines of ``metrics.jsonl``.
    evaluation
        What ``evaluation.json`` holds of the same; empty if there is none.
    lineage
        The run's living clusters; None where it has none.
    called
        What the clusters are called.
    basis
        Whose clusters they are, as `cluster_names` has it.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    shards: str
    clusters: int
    classes: tuple[str, ...]
    table: Assignments
    points: Points | None
    metrics: Sequence[dict[str, Any]]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    lineage: Lineage | None = None
    called: ResolvedNames = field(default_factory=lambda: ResolvedNames(0))
    basis: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def tally(self) -> Tally:
        """The table, counted."""
        tally = Tally(self.clusters)
        tally.add(self.table.clusters, self.table.confidence, self.table.labels)
        return tally


def read_inputs(
    run: str | Path, device: str = "auto", workers: int | None = None, clusters: int | None = None
) -> tuple[Inputs, SampleReader | None]:
    """Read a run; evaluate it first if table or features are missing, or not of its newest checkpoint and its data.

    Returns
    -------
    Inputs
        The run.
    SampleReader
        Of its images: sample i is row i of the table. None for a run on a feature store whose shards are not there.

    Raises
    ------
    InputError
        If it is no run, has no checkpoint, or its data are not there.
    """
    config, checkpoint = run_and_checkpoint(run)
    folder = config.run_folder
    splits = config.evaluated_splits
    manifest, reader = _open_images(config, splits)
    head = serving_head(config.model, checkpoint.heads, clusters)
    basis = Basis.of(checkpoint, manifest, splits, head)
    table, points = _read_table(folder / TABLE, basis), _read_points(folder / FILE, basis)
    if table is None or points is None:
        say(f"{folder}: measuring the clusters of step {checkpoint.step} first")
        step = str(checkpoint.step)
        found = evaluate_run(run, device=device, workers=workers, checkpoint=step, clusters=clusters)
        head = (found or {}).get("head", head)  # it may have chosen another one
        basis = replace(basis, head=head)
        table, points = _read_table(folder / TABLE, basis), _read_points(folder / FILE, basis)
    if table is None or points is None:
        raise Fault(
            f"{folder} has no figures of step {checkpoint.step}: another process may be evaluating the run"
        )
    if ((points.rows < 0) | (points.rows >= len(table.keys))).any():
        raise InputError(f"{folder / FILE} is damaged; delete it, and `ccscale report` measures again")
    return (
        Inputs(
            name="/".join(folder.resolve().parts[-2:]),
            facts=_facts(config, manifest, splits, checkpoint.step),
            shards=manifest.root,
            clusters=config.model.head_clusters[head],
            classes=manifest.classes,
            table=table,
            points=points,
            metrics=read_lines(folder / METRICS),
            evaluation=_read_evaluation(folder / FIGURES, basis),
            lineage=open_lineage(folder) if is_living(folder) else None,
            called=resolve_names(folder, basis.weights, head, config.model.head_clusters[head]),
            basis={"step": basis.step, "weights": basis.weights, "head": head},
        ),
        reader,
    )


def _open_images(config: Config, splits: Sequence[str]) -> tuple[Manifest, SampleReader | None]:
    """Return a run's data, and what reads the images where they are there, as they are for a feature store not."""
    if config.data.features is None:
        manifest = Manifest.load(config.data.place)
        manifest.check_files(splits)
        return manifest, SampleReader(manifest, splits, Access.of(config.data))
    manifest = Features(config.data.features, splits).whole.manifest
    try:
        manifest.check_files(splits)
    except InputError as error:
        say(f"the report has no pictures: {error}")
        return manifest, None
    return manifest, SampleReader(manifest, splits, Access.of(config.data))


def _read_table(path: Path, basis: Basis) -> Assignments | None:
    """Read a table; None if there is none, or it is of something else."""
    if not path.exists():
        return None
    with _readable(path):
        same = Basis.parse((pa.parquet.read_schema(path).metadata or {}).get(KEY)) == basis
        return read_table(path) if same else None


def _read_points(path: Path, basis: Basis) -> Points | None:
    """Read features; None if there are none, or they are of something else."""
    if not path.exists():
        return None
    with _readable(path), np.load(path, allow_pickle=False) as arrays:
        if Basis.parse(str(arrays.get("basis"))) != basis:
            return None
        points = Points(arrays["rows"].astype(np.int64), arrays["features"])
        if len(points.rows) != len(points.features):
            raise ValueError("there are not as many features as rows")
        return points


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, pa.ArrowInvalid, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read ({error}); delete it, and `ccscale report` measures again"
        ) from None


def _read_evaluation(path: Path, basis: Basis) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        return found if Basis.parse(found["basis"]) == basis else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _facts(
    config: Config, manifest: Manifest, splits: Sequence[str], step: int
) -> tuple[tuple[str, str], ...]:
    return (
        ("Data", f"{manifest.name} ({', '.join(splits)})"),
        ("Shards", manifest.root),
        *((("Features", config.data.features),) if config.data.features else ()),
        ("Backbone", f"{config.model.backbone}, {config.views.size} px"),
        ("Global batch", f"{config.train.global_batch:,}"),
        ("Learning rate", f"{config.train.lr:g}"),
        ("Seed", str(config.seed)),
        ("Checkpoint", f"step {step:,}"),
    )
