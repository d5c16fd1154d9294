"""A table of images: parquet, CSV or TSV with a column of paths or URLs, and perhaps one of labels and of splits.

path             label   split
cats/1.jpg       cat     train
https://…/7.png  dog     val

Relative paths are relative to the table's folder. Rows are counted from 0, the header of a CSV not among them.
"""

import functools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ccscale.data.remote.images import Url
from ccscale.data.remote.url import SCHEMES, check_scheme, scheme
from ccscale.data.sources.contents import Content, File
from ccscale.data.sources.items import Item, Source
from ccscale.data.splits import check_split
from ccscale.errors import InputError, nearest

PATH_COLUMNS = ("path", "file", "filename", "image", "url")
LABEL_COLUMNS = ("label", "class")
SPLIT_COLUMN = "split"
MOST_CLASSES = 1 << 20  # larger numbers are names of something else
DELIMITERS = {".csv": ",", ".tsv": "\t"}
NUMBER = re.compile(
    r"-?(0|[1-9][0-9]{0,17})(\.0)?"
)  # in a CSV; ".0" is how pandas writes it beside empty cells
CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::|pipe:")  # what fsspec and WebDataset would run or take apart


def table(
    path: str | os.PathLike[str],
    path_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    labels: bool = True,
) -> Source:
    """List the images that a table names.

    Labels that are texts become classes in sorted order, non-negative integers are labels as they are, and an
    empty cell means that the label is not known. Files and URLs are not looked at: what cannot be read is an
    image that cannot be read.

    Parameters
    ----------
    path
        A ``.parquet``, ``.csv`` or ``.tsv`` file.
    path_column
        The column of paths and URLs (http, https, s3, gs); by default the first of `PATH_COLUMNS` that is there.
    label_column
        By default the first of `LABEL_COLUMNS` that is there, if any is.
    split
        Take all rows as one split of this name. By default the column ``split`` tells, or all are ``train``.
    labels
        If False, no image has a label.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a column, or a row has no path, a path that is refused, or a label that
        is neither a text nor a number from 0; with the row.
    """
    place = os.path.realpath(path)
    available = _columns(place, str(path))
    paths_in = _choose(path_column, "--path-column", PATH_COLUMNS, available, str(path))
    if paths_in is None:
        raise InputError(
            f"{path} has no column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]} but "
            f"{', '.join(available)}: name the one with the paths by --path-column"
        )
    labels_in = (
        _choose(label_column, "--label-column", LABEL_COLUMNS, available, str(path)) if labels else None
    )
    splits_in = SPLIT_COLUMN if split is None and SPLIT_COLUMN in available else None
    if split is not None:
        check_split(split, "--split")

    wanted = dict.fromkeys(name for name in (paths_in, labels_in, splits_in) if name is not None)
    rows = _read(place, list(wanted), str(path))
    paths = _paths(rows[paths_in], paths_in, str(path))
    classes: tuple[str, ...] = ()
    numbers: list[int | None] = [None] * len(paths)
    if labels_in is not None:
        numbers, classes = _labels(rows[labels_in], labels_in, str(path))
    splits_of = _splits(rows[splits_in], str(path)) if splits_in else [split or "train"] * len(paths)

    folder = os.path.realpath(os.path.dirname(path))
    contents, keys = _contents(paths, folder, str(path)), _keys(paths, folder)
    splits: dict[str, list[Item]] = {name: [] for name in sorted(set(splits_of))}
    for row, name in enumerate(splits_of):
        splits[name].append(Item(keys[row], contents[row], numbers[row], paths[row]))
    return Source(os.path.splitext(os.path.basename(place))[0], "table", classes, classes, splits)


def _columns(place: str, path: str) -> list[str]:
    """Return the names of a table's columns."""
    extension = os.path.splitext(place)[1].lower()
    if extension != ".parquet" and extension not in DELIMITERS:
        raise InputError(f"{path} is no .parquet, .csv or .tsv: convert it to one of these")
    if not os.path.isfile(place):
        raise InputError(f"there is no file {path}; SOURCE must be a table")
    try:
        if extension == ".parquet":
            names = list(pq.read_schema(place).names)
        else:
            with _open_csv(place, []) as reader:
                names = list(reader.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path} has two columns {twice[0]!r}: rename one")
    return names


def _choose(
    asked: str | None, option: str, usual: Sequence[str], available: Sequence[str], path: str
) -> str | None:
    """Return the column that is asked for, or the first usual one that is there."""
    if asked is None:
        return next((name for name in usual if name in available), None)
    if asked not in available:
        hint = nearest(asked, available) or f"; it has {', '.join(available)}"
        raise InputError(f"{option}: {path} has no column {asked!r}{hint}")
    return asked


def _read(place: str, names: list[str], path: str) -> pa.Table:
    try:
        if place.lower().endswith(".parquet"):
            return pq.ParquetFile(place).read(names)
        with _open_csv(place, names) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _open_csv(place: str, names: list[str]) -> "pyarrow.csv.CSVStreamingReader":
    """Open a CSV with some of its columns, all as texts; only a cell with nothing in it is empty."""
    return pyarrow.csv.open_csv(
        place,
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=DELIMITERS[os.path.splitext(place)[1].lower()], newlines_in_values=True
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as a table ({' '.join(str(error).split())}): check the file")


def _texts(column: pa.ChunkedArray, name: str, path: str) -> list[str | None]:
    """Return a column of texts; None for an empty cell."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        return [None] * len(column)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(
            f"{path}: the column {name} holds {kind}, not texts: name another one, or convert it"
        )
    return column.cast(pa.large_string()).to_pylist()


def _paths(column: pa.ChunkedArray, name: str, path: str) -> list[str]:
    """Return the paths and URLs, one for each row."""
    paths = []
    for row, text in enumerate(_texts(column, name, path)):
        if not text:
            raise InputError(
                f"{path}: row {row} (from 0) has no path in the column {name}: fill it in, or drop the row"
            )
        paths.append(text)
    if not paths:
        raise InputError(f"{path} has no rows: name a table with a row for each image")
    return paths


def _labels(column: pa.ChunkedArray, name: str, path: str) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the rows' labels and the classes."""
    numbers: list[int | None]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        try:
            numbers = pc.if_else(pc.is_nan(column), None, column).cast(pa.int64()).to_pylist()
        except pa.ArrowInvalid:
            raise InputError(
                f"{path}: the column {name} has labels that are no whole numbers: convert it"
            ) from None
    else:
        texts = _texts(column, name, path)
        found = {text for text in texts if text}
        if path.lower().endswith(".parquet") or not all(map(NUMBER.fullmatch, found)):
            classes = tuple(sorted(found))
            index = {text: label for label, text in enumerate(classes)}
            return [index[text] if text else None for text in texts], classes
        numbers = [int(text.removesuffix(".0")) if text else None for text in texts]
    for row, number in enumerate(numbers):
        if number is not None and not 0 <= number < MOST_CLASSES:
            raise InputError(
                f"{path}: row {row} (from 0) has the label {number} in the column {name}, and labels count classes "
                "from 0: leave the cell empty where the class is not known"
            )
    largest = max((number for number in numbers if number is not None), default=-1)
    return numbers, tuple(str(label) for label in range(largest + 1))


def _splits(column: pa.ChunkedArray, path: str) -> list[str]:
    names = _texts(column, SPLIT_COLUMN, path)
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    for name, row in first.items():
        check_split(name or "", f"{path}: row {row} (from 0): the split")
    return [name or "" for name in names]


def _contents(paths: Sequence[str], folder: str, path: str) -> list[Content]:
    """Return where each row's image is read from."""
    contents: list[Content] = []
    checked: set[str] = set()
    is_there = functools.cache(os.path.isdir)
    for row, text in enumerate(paths):
        protocol = scheme(text)
        if CHAIN.match(text) or (protocol and (protocol not in SCHEMES or "::" in text)) or "\0" in text:
            raise InputError(
                f"{path}: row {row} (from 0) has {text!r}, which is neither a path nor a URL of "
                f"{', '.join(SCHEMES)}: download such images first, or drop the row"
            )
        if protocol and protocol not in checked:
            check_scheme(protocol)
            checked.add(protocol)
        if protocol:
            contents.append(Url(text))
        else:
            place = _absolute(folder, text)
            contents.append(File(place, is_there(os.path.dirname(place))))
    return contents


def _absolute(folder: str, name: str) -> str:
    joined = os.path.join(folder, name)
    # Taking the parent of a link by its name alone would lead elsewhere.
    return os.path.realpath(joined) if ".." in name.split("/") else os.path.normpath(joined)


def _keys(paths: Sequence[str], folder: str) -> list[str]:
    """Name the samples: by their paths, and by their rows where that is a URL or the name of several."""
    stems = ["" if scheme(text) else _stem(text, folder) for text in paths]
    counts = Counter(stems)
    taken = set(stems)
    keys = []
    for row, stem in enumerate(stems):
        key = stem
        if not stem or counts[stem] > 1:
            key = f"{stem}-row-{row:09d}" if stem else f"row-{row:09d}"
            while key in taken:
                key += "_"
            taken.add(key)
        keys.append(key)
    return keys


def _stem(text: str, folder: str) -> str:
    """Return a path without extension, dots and whatever would lead out of a folder."""
    inside = text.removeprefix(folder + "/") if text.startswith(folder + "/") else text
    parts = [part for part in posixpath.splitext(inside)[0].split("/") if part not in ("", ".", "..")]
    return re.sub(r"[\x00-\x1f\x7f.]", "_", "/".join(parts))
