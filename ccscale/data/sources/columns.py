"""The columns of a table: parquet, CSV or TSV."""

import os
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ccscale.errors import InputError, did_you_mean

DELIMITERS = {".csv": ",", ".tsv": "\t"}


class Columns:
    """A table and the columns read from it.

    Parameters
    ----------
    path
        A ``.parquet``, ``.csv`` or ``.tsv`` file.

    Attributes
    ----------
    place
        Its real path.
    schema
        The names and types of its columns; those of a CSV are not what they are read as.

    Raises
    ------
    InputError
        If it cannot be read, or two columns have one name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.place = str(path), os.path.realpath(path)
        extension = os.path.splitext(self.place)[1].lower()
        self._delimiter = DELIMITERS.get(extension)  # None for parquet
        if extension != ".parquet" and self._delimiter is None:
            raise InputError(f"{path} is not a .parquet, .csv or .tsv file: convert it")
        if not os.path.isfile(self.place):
            raise InputError(f"there is no file {path}; SOURCE must be a table")
        try:
            if self._delimiter is None:
                self.schema = pq.read_schema(self.place)
            else:
                with self._open_csv([]) as reader:
                    self.schema = reader.schema
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        twice = [name for name, count in Counter(self.schema.names).items() if count > 1]
        if twice:
            raise InputError(f"{path} has two columns {twice[0]!r}: rename one")
        self._rows = pa.table({})

    @property
    def is_parquet(self) -> bool:
        """Whether columns have types, and cells may be bytes."""
        return self._delimiter is None

    def choose(self, asked: str | None, option: str, usual: Sequence[str] = ()) -> str | None:
        """Return the column that is requested by an option, or the first usual one that is there.

        Raises
        ------
        InputError
            If there is no such column, or it is not clear which one is meant.
        """
        available = self.schema.names
        if asked is None:
            for name in usual:
                alike = [column for column in available if column.strip().lower() == name]
                if name in alike or len(alike) == 1:
                    return name if name in alike else alike[0]
                if alike:
                    raise InputError(
                        f"{self.path} has the columns {' and '.join(map(repr, alike))}: rename all but one"
                    )
            return None
        if asked not in available:
            hint = did_you_mean(asked, available) or f"; it has {', '.join(available)}"
            raise InputError(f"{option}: {self.path} has no column {asked!r}{hint}")
        return asked

    def read(self, names: Sequence[str]) -> None:
        """Read some columns; raises InputError if they cannot be."""
        try:
            if self._delimiter is None:
                self._rows = pq.ParquetFile(self.place).read(names)
            else:
                with self._open_csv(names) as reader:
                    self._rows = reader.read_all()
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """Return a column that was read."""
        return self._rows[name]

    def texts(self, name: str) -> list[str | None]:
        """Return a column of texts; None for an empty cell. Raises InputError for anything else."""
        column = self[name]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_null(kind):
            return [None] * len(column)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise InputError(
                f"{self.path}: the column {name} contains {kind}, not text: choose another column, or "
                "convert it"
            )
        return column.cast(pa.large_string()).to_pylist()

    def _open_csv(self, names: Sequence[str]) -> "pyarrow.csv.CSVStreamingReader":
        """Open a CSV with some of its columns, all as texts; only a cell with nothing in it is empty."""
        return pyarrow.csv.open_csv(
            self.place,
            parse_options=pyarrow.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )

    def _unreadable(self, error: Exception) -> InputError:
        why = " ".join(str(error).split())
        return InputError(f"{self.path} cannot be read as a table ({why}): check the file")
