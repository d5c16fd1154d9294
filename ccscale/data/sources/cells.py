"""Images in the cells of a parquet file: ``image: {bytes, path}`` as Hugging Face's data sets have them, or binary.

A cell can only be had with its neighbours, so cells are read in their order, a few rows at a time: the next one
costs little, any other as much as its row group.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ccscale.data.sources.contents import File

BYTES, PATH = "bytes", "path"  # fields of a struct
ROWS = 16  # that are decoded at once
TYPICAL_BYTES = 128 * 1024  # of an image; a cell's size is known once it is read


@dataclass(frozen=True, slots=True)
class Cell:
    """An encoded image in a cell; `size` is a guess.

    Attributes
    ----------
    path
        Of the parquet file.
    column
        Its column.
    group, row
        The row group, and the row in there.
    instead
        The file that is read where the cell has no bytes; "" where it names none.
    """

    path: str
    column: str
    group: int
    row: int
    instead: str = ""

    @property
    def size(self) -> int:
        return TYPICAL_BYTES

    def read(self) -> bytes:
        try:
            data = _cursor.cell(self)
        except pa.ArrowException as error:
            raise OSError(errno.EIO, " ".join(str(error).split())) from None
        if data is not None:
            return data
        if not self.instead:
            raise OSError(errno.ENODATA, "its cell is empty")
        return File(self.instead, listed=False).read()


def holds_image(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds images themselves."""
    if pa.types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return BYTES in names and _is_binary(names[BYTES])
    return _is_binary(kind)


def places(path: str) -> Iterator[tuple[int, int]]:
    """Yield the (row group, row in it) of each row of a parquet file."""
    footer = pq.read_metadata(path)
    for group in range(footer.num_row_groups):
        for row in range(footer.row_group(group).num_rows):
            yield group, row


def _is_binary(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


@dataclass
class _Cursor:
    """The position of this process in a row group."""

    place: tuple[str, str, int] | None = None
    next: int = 0
    left: Iterator[Any] = field(default_factory=lambda: iter(()))

    def cell(self, wanted: Cell) -> bytes | None:
        place = wanted.path, wanted.column, wanted.group
        if place != self.place or wanted.row < self.next:
            if not os.path.isfile(wanted.path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), wanted.path)
            self.place, self.next, self.left = place, 0, _cells(*place)
        try:
            for value in self.left:
                self.next += 1
                if self.next == wanted.row + 1:
                    return None if value is None else bytes(value)
        except BaseException:
            self.place = None
            raise
        raise OSError(errno.EIO, "the table ends before its row")


_cursor = _Cursor()


def _cells(path: str, column: str, group: int) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        struct = pa.types.is_struct(file.schema_arrow.field(column).type)
        leaf = f"{column}.{BYTES}" if struct else column
        for batch in file.iter_batches(ROWS, row_groups=[group], columns=[leaf]):
            values = batch.column(0)
            for value in values.field(BYTES) if struct else values:
                yield value.as_py()
