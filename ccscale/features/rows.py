"""The memory-mapped rows of a store: file after file, block after block (record batch)."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ccscale.array_types import Int64
from ccscale.errors import InputError
from ccscale.features.feature_file import FeatureFileReader, view_name
from ccscale.features.listing import FeatureFile, Listing

OPEN_FILES = 128
KINDS = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}  # as the listing names them


class StoredRows:
    """The rows of some files of a store, counted through; files are opened when they are needed.

    Attributes
    ----------
    count
        Number of rows.
    kind
        numpy's type of features as they are kept.
    """

    def __init__(self, folder: Path, listing: Listing, files: Sequence[FeatureFile]) -> None:
        self._folder, self._listing, self._files = folder, listing, files
        self.kind: Any = KINDS[listing.settings.dtype]
        sizes = np.array([file.rows for file in files], dtype=np.int64)
        self.count = int(sizes.sum())
        # Blocks of all files, counted through: where each begins, and which file it is of.
        blocks = -(-sizes // listing.block)
        self._first_blocks = np.cumsum(blocks) - blocks
        self._file_of_block = np.repeat(np.arange(len(sizes)), blocks)
        within = np.arange(len(self._file_of_block)) - self._first_blocks[self._file_of_block]
        self._firsts = (np.cumsum(sizes) - sizes)[self._file_of_block] + within * listing.block
        self._open: OrderedDict[int, FeatureFileReader] = OrderedDict()

    def pieces(self, view: int, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Yield a view's features of consecutive rows as they are kept, (m, D) each, not copied."""
        while start < stop:
            block = int(np.searchsorted(self._firsts, start, side="right")) - 1
            first = int(self._firsts[block])
            piece = self._block(view, block)[start - first : stop - first]
            yield piece
            start += len(piece)

    def copy(self, view: int, rows: Int64, out: NDArray[Any], positions: Int64) -> None:
        """Copy a view's features of rows (m,), in any order, to some positions (m,) of `out`, block by block."""
        blocks = np.searchsorted(self._firsts, rows, side="right") - 1
        order = np.argsort(blocks, kind="stable")
        blocks, rows, positions = blocks[order], rows[order], positions[order]
        start = 0
        for end in (np.flatnonzero(np.diff(blocks, append=-1)) + 1).tolist():
            block = int(blocks[start])
            out[positions[start:end]] = self._block(view, block)[rows[start:end] - self._firsts[block]]
            start = end

    def chunks(self, name: str) -> list[pa.Array]:
        """Return a column of one value a row, not copied."""
        return [chunk for file in range(len(self._files)) for chunk in self._reader(file).column(name).chunks]

    def column(self, name: str, kind: Any) -> NDArray[Any]:
        """Return a column of one number a row, copied."""
        columns = [self._reader(file).column(name).to_numpy() for file in range(len(self._files))]
        return np.concatenate([np.empty(0, kind), *columns]).astype(kind, copy=False)

    def _block(self, view: int, block: int) -> NDArray[Any]:
        file = int(self._file_of_block[block])
        return self._reader(file).arrays(view)[block - int(self._first_blocks[file])]

    def _reader(self, file: int) -> FeatureFileReader:
        """Return an open file; of too many the one that was used longest ago is closed."""
        if file not in self._open:
            reader = FeatureFileReader(self._folder / self._files[file].name)
            views = self._listing.settings.views
            if reader.width != self._listing.width or reader.schema.get_field_index(view_name(views)) < 0:
                raise InputError(
                    f"{reader.path} does not fit its store; run `ccscale embed verify {self._folder}`"
                )
            self._open[file] = reader
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(file)
        return self._open[file]


def check_files(folder: Path, files: Sequence[FeatureFile]) -> None:
    """Check that files of a store are there, and as large as is listed; raises InputError."""
    for file in files:
        path = folder / file.name
        try:
            size = os.stat(path).st_size
            wrong = "" if size == file.bytes else f"it has {size} bytes, not {file.bytes}"
        except OSError as error:
            wrong = f"it cannot be read ({error.strerror})"
        if wrong:
            raise InputError(
                f"{path} does not match the store's listing: {wrong}; run `ccscale embed verify {folder}`"
            )
