"""One file of a store: an uncompressed Arrow IPC file, which is mapped into memory, not read.

::

    key     string
    label   int64                         -1 where it is not known
    bad     bool                          its features are zeros: no image, or no finite features
    view_0  fixed_size_list<…>[width]     the image as it is
    view_1 … view_V                       its random views

in record batches ("blocks") of equal numbers of rows, the last one shorter: what is held in memory at a time does
not grow with a shard.
Features are float16, float32, or, as Arrow has no such type, the 16 bits of a bfloat16 as uint16.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import atomic
from ccscale.errors import InputError
from ccscale.features.listing import Dtype

ENDING = ".arrow"
FACTS = b"ccscale.features"  # the metadata's key: what the file is of, and what could not be decoded

_TYPES = {"float16": pa.float16(), "bfloat16": pa.uint16(), "float32": pa.float32()}
_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def view_name(view: int) -> str:
    """Return the column of a view; 0 is the image as it is."""
    return f"view_{view}"


def schema(width: int, views: int, dtype: Dtype, facts: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of a file with so many random views, and facts in its metadata."""
    columns = {"key": pa.string(), "label": pa.int64(), "bad": pa.bool_()}
    columns |= {view_name(view): pa.list_(_TYPES[dtype], width) for view in range(views + 1)}
    return pa.schema(columns, {FACTS: json.dumps(facts)})


def record_batch(
    schema: pa.Schema,
    keys: Sequence[str],
    labels: NDArray[np.int64],
    bad: NDArray[np.bool_],
    features: Sequence[NDArray[Any]],
) -> pa.RecordBatch:
    """Return rows of a file; `features` is for each view (n, width), of the file's type as `encode` gives it."""
    width = schema.field(view_name(0)).type.list_size
    views = [pa.FixedSizeListArray.from_arrays(pa.array(view.reshape(-1)), width) for view in features]
    return pa.record_batch([pa.array(keys, pa.string()), pa.array(labels), pa.array(bad), *views], schema)


def encode(features: Tensor, dtype: Dtype) -> NDArray[Any]:
    """Return features of any type as they are kept: bfloat16 as uint16, whose bits it has."""
    kept = features.to(_TORCH[dtype]).cpu()
    return kept.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else kept.numpy()


def decode(kept: NDArray[Any]) -> Tensor:
    """Return kept features, an array of one's own, as a float32 tensor."""
    if kept.dtype == np.uint16:
        return torch.from_numpy(kept.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(kept).float()


@dataclass(frozen=True)
class Written:
    """Size and hash of a written file, and how many rows have a label or are bad."""

    rows: int
    bytes: int
    sha256: str
    labelled: int
    bad: int


class _Hashing:
    """A file that is written from front to end, and hashed on the way."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.bytes += memoryview(data).nbytes
        return self._file.write(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave it open: `atomic.replacing` flushes it to the disk."""


def write_file(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Written:
    """Write a file atomically, from batches of equal numbers of rows, the last one shorter.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    rows = labelled = bad = 0
    with atomic.replacing(path, hidden=True) as file:
        hashing = _Hashing(file)
        with pa.ipc.new_file(pa.PythonFile(hashing, mode="w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += len(batch)
                labelled += int(np.count_nonzero(batch["label"].to_numpy() >= 0))
                bad += batch["bad"].true_count
    return Written(rows, hashing.bytes, hashing.hash.hexdigest(), labelled, bad)


class FeatureFileReader:
    """A file of a store, mapped into memory.

    Raises
    ------
    InputError
        If it is not there, or no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = [self._file.get_batch(i) for i in range(self._file.num_record_batches)]
            self.facts: dict[str, Any] = json.loads(self._file.schema.metadata[FACTS])
            self._batches = batches
            self._views: dict[int, list[NDArray[Any]]] = {}
            self.width: int = self._file.schema.field(view_name(0)).type.list_size
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, AttributeError, ValueError) as error:
            what = "it is not there" if isinstance(error, FileNotFoundError) else "it is damaged"
            raise InputError(
                f"{path} cannot be read: {what}; run `ccscale embed verify {path.parent}`"
            ) from None

    @property
    def schema(self) -> pa.Schema:
        """Columns and metadata."""
        return self._file.schema

    @property
    def batches(self) -> Sequence[pa.RecordBatch]:
        """Its rows, block by block."""
        return self._batches

    @property
    def rows(self) -> int:
        """How many it has."""
        return sum(map(len, self._batches))

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of one value a row."""
        kind = self._file.schema.field(name).type
        return pa.chunked_array([batch[name] for batch in self._batches], kind)

    def arrays(self, view: int) -> list[NDArray[Any]]:
        """Return a view's features block by block, (m, width) each, as they are kept: not copied."""
        if view not in self._views:
            self._views[view] = [
                batch[view_name(view)].values.to_numpy().reshape(len(batch), self.width)
                for batch in self._batches
            ]
        return self._views[view]
