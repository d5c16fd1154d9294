"""Assignments as a table: parquet or CSV, one row a sample."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ccscale import atomic
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assignments

FORMATS = (".parquet", ".csv")


def check_table_path(path: Path) -> None:
    """Refuse a path that no table can be written to, before any work is done for it.

    Raises
    ------
    InputError
        For an unknown ending, or a folder that is not there.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path} must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for {path.name}; make it first")


def write_table(path: Path, found: Assignments, labels: bool = False) -> None:
    """Write ``key``, ``cluster`` and ``confidence``, and ``label`` if asked for, by the ending of `path`.

    Cluster and confidence are null for an image that cannot be decoded, the label is where it is not known.
    """
    bad, unknown = found.clusters < 0, found.labels < 0
    columns = {
        "key": pa.array(found.keys, pa.string()),
        "cluster": pa.array(found.clusters, pa.int32(), mask=bad),
        "confidence": pa.array(found.confidence, pa.float32(), mask=bad),
    }
    if labels:
        columns["label"] = pa.array(found.labels, pa.int32(), mask=unknown)
    table = pa.table(columns)
    with atomic.replacing(path) as file:
        if path.suffix == ".csv":
            pa.csv.write_csv(table, file)
        else:
            pa.parquet.write_table(table, file)


def read_table(path: Path) -> Assignments:
    """Read a parquet table that `write_table` wrote with labels."""
    table = pa.parquet.read_table(path)
    return Assignments(
        tuple(table["key"].to_pylist()),
        table["cluster"].fill_null(-1).to_numpy().astype(np.int64),
        table["confidence"].fill_null(0).to_numpy(),
        table["label"].fill_null(-1).to_numpy().astype(np.int64),
        None,
        (),
    )
