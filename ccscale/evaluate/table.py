"""Assignments as a table: parquet or CSV, one row a sample, in the order of the samples.

key                string
origin             string   where the image came from, a path or a URL; null where the shards do not tell
cluster            int32    null for an image that cannot be decoded, as all that follow but the label; -1 for one
                            that is left without a cluster
name               string   of the cluster; only where clusters have names, null where it has none
confidence         float32  the soft assignment to the cluster
calibrated         float32  how often images of such a confidence are right; only where that was measured
second             int32    the next likely cluster
second_confidence  float32
reason             string   why the image is left without a cluster; only if requested
label              int32    only if requested; null where not known
features           list of D float32, only if requested

In a CSV, text that a spreadsheet would take for a formula has a ' in front (`spreadsheet.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned
from ccscale.spreadsheet import cells

FORMATS = (".parquet", ".csv")
GROUP_ROWS, GROUP_BYTES = 2**17, 2**27  # what is written at once, about


@dataclass(frozen=True)
class Assignments:
    """The clusters of N samples, in the order of the shards.

    Attributes
    ----------
    keys
        Names, N strings.
    clusters
        (N,) int64; -1 for an image that cannot be decoded.
    confidence
        (N,) float32: the soft assignment to the cluster; 0 for an image that cannot be decoded.
    labels
        (N,) int64; -1 where not known.
    second, second_confidence
        The same of the next likely cluster; None where the table does not have them.
    origins
        Where the images came from, N strings; None where the table does not tell of any.
    """

    keys: pa.Array
    clusters: NDArray[np.int64]
    confidence: NDArray[np.float32]
    labels: NDArray[np.int64]
    second: NDArray[np.int64] | None = None
    second_confidence: NDArray[np.float32] | None = None
    origins: pa.Array | None = None


def check_table_path(path: Path) -> None:
    """Refuse a path that no table can be written to, before any work is done for it.

    Raises
    ------
    InputError
        For an unknown ending, or a folder that is not there.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path} must end in {' or '.join(FORMATS)}, or in / for a folder of parts")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for {path.name}; create it first")


def to_table(assigned: Assigned, labels: bool = False, features: str | None = None) -> pa.Table:
    """Return the rows of a batch.

    Parameters
    ----------
    assigned
        The batch.
    labels
        With the column ``label``.
    features
        Which ones go into the column ``features``: ``backbone``, ``instance``, or none.
    """
    bad, unknown = assigned.batch.bad, assigned.batch.labels < 0
    alone = assigned.second < 0
    columns = {
        "key": pa.array(assigned.batch.keys, pa.string()),
        "origin": pa.array(assigned.batch.origins or [None] * len(bad), pa.string()),
        "cluster": pa.array(assigned.clusters, pa.int32(), mask=bad),
    }
    if assigned.names is not None:
        columns["name"] = pa.array(assigned.names, pa.string())
    columns["confidence"] = pa.array(assigned.confidence, pa.float32(), mask=bad)
    if assigned.calibrated is not None:
        columns["calibrated"] = pa.array(assigned.calibrated, pa.float32(), mask=bad)
    columns["second"] = pa.array(assigned.second, pa.int32(), mask=alone)
    columns["second_confidence"] = pa.array(assigned.second_confidence, pa.float32(), mask=alone)
    if assigned.reasons is not None:
        columns["reason"] = pa.array(assigned.reasons, pa.string())
    if labels:
        columns["label"] = pa.array(assigned.batch.labels, pa.int32(), mask=unknown)
    if features is not None:
        columns["features"] = _features(chosen_features(assigned, features), bad)
    return pa.table(columns)


def chosen_features(assigned: Assigned, features: str) -> NDArray[np.float32]:
    """Return the backbone's features (n, D), or the instance head's embeddings (n, d) of unit length."""
    chosen = assigned.outputs.features if features == "backbone" else assigned.outputs.embeddings
    return chosen.float().cpu().numpy()


def _features(values: NDArray[np.float32], bad: NDArray[np.bool_]) -> pa.Array:
    # Of any length, though all have one: pyarrow before 26 does not read lists of a fixed length where one is null.
    ends = np.cumsum(np.where(bad, 0, values.shape[1]))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values[~bad].ravel()), mask=pa.array(bad))


def write_table(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables one below the other, atomically, in the format of the extension of `path`; at least one.

    What is being written has a hidden name: others may read the folder at any time.

    No more of them than `GROUP_ROWS` rows or `GROUP_BYTES` bytes are held at a time.
    """
    writer: Any = None
    with atomic.replacing(path, hidden=True) as file:
        for table in _grouped(tables):
            if writer is None:
                kind = pa.csv.CSVWriter if path.suffix == ".csv" else pa.parquet.ParquetWriter
                writer = kind(file, table.schema)
            writer.write_table(cells(table) if path.suffix == ".csv" else table)
        writer.close()


def _grouped(tables: Iterable[pa.Table]) -> Iterable[pa.Table]:
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= GROUP_ROWS or sum(part.nbytes for part in held) >= GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def read_table(path: Path) -> Assignments:
    """Read a parquet table with labels; of an earlier release it may lack the next likely clusters."""
    table = pa.parquet.read_table(path)

    def column(name: str, missing: int, kind: type[np.generic]) -> NDArray[Any]:
        return table[name].fill_null(missing).to_numpy().astype(kind)

    names = set(table.column_names)
    seconds = {"second", "second_confidence"} <= names
    return Assignments(
        table["key"].combine_chunks(),
        column("cluster", -1, np.int64),
        column("confidence", 0, np.float32),
        column("label", -1, np.int64),
        column("second", -1, np.int64) if seconds else None,
        column("second_confidence", 0, np.float32) if seconds else None,
        table["origin"].combine_chunks()
        if "origin" in names and table["origin"].null_count < len(table)
        else None,
    )
