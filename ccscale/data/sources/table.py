"""A table of images: parquet, CSV or TSV with a column of paths or URLs, and perhaps of labels, splits and keys.

path             label   split
cats/1.jpg       cat     train
https://…/7.png  dog     val

Relative paths are relative to the table's folder. Rows are counted from 0, the header of a CSV not among them. A
column that is not named by the user is found whatever the case of its name and the spaces around it. What labels
mean is told in `data/labels.py`. A parquet's column may hold the images themselves (`cells.py`).
"""

import functools
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ccscale.data.remote.downloads import Url
from ccscale.data.remote.url import SCHEMES, check_scheme, scheme
from ccscale.data.shards.labels import UNKNOWN, LabelError, Labels, as_text
from ccscale.data.shards.splits import check_split
from ccscale.data.sources import cells
from ccscale.data.sources.contents import Content, File
from ccscale.data.sources.items import Item, Source
from ccscale.errors import InputError, nearest

PATH_COLUMNS = ("path", "file", "filename", "image", "url")
LABEL_COLUMNS = ("label", "class")
SPLIT_COLUMNS = ("split",)
DELIMITERS = {".csv": ",", ".tsv": "\t"}
CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::|pipe:")  # what fsspec and WebDataset would run or take apart


def table(
    path: str | os.PathLike[str],
    path_column: str | None = None,
    label_column: str | None = None,
    key_column: str | None = None,
    split: str | None = None,
    labels: bool = True,
) -> Source:
    """List the images that a table names.

    Files and URLs are not looked at: what cannot be read is an image that cannot be read.

    Parameters
    ----------
    path
        A ``.parquet``, ``.csv`` or ``.tsv`` file.
    path_column
        The column of paths and URLs (http, https, s3, gs), or of images; by default the first of `PATH_COLUMNS`
        that is there.
    label_column
        By default the first of `LABEL_COLUMNS` that is there, if any is.
    key_column
        The column of the samples' keys, texts or whole numbers. By default an image is named by its path, or by its
        row where that is a URL or the path of several.
    split
        Take all rows as one split of this name. By default the column ``split`` tells, or all are ``train``.
    labels
        If False, no image has a label.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a column, or a row has no path, a path that is refused, a label that is
        none, or no key of its own; with the row.
    """
    place = os.path.realpath(path)
    schema = _schema(place, str(path))
    paths_in = _choose(path_column, "--path-column", PATH_COLUMNS, schema.names, str(path))
    if paths_in is None:
        raise InputError(
            f"{path} has no column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]} but "
            f"{', '.join(schema.names)}: name the one with the paths by --path-column"
        )
    labels_in = None
    if labels:
        labels_in = _choose(label_column, "--label-column", LABEL_COLUMNS, schema.names, str(path))
    keys_in = _choose(key_column, "--key-column", (), schema.names, str(path))
    splits_in = None
    if split is None:
        splits_in = _choose(None, "--split", SPLIT_COLUMNS, schema.names, str(path))
    else:
        check_split(split, "--split")

    in_cells = place.lower().endswith(".parquet") and cells.is_image(schema.field(paths_in).type)
    wanted = dict.fromkeys(name for name in (labels_in, splits_in, keys_in) if name is not None)
    if not in_cells:
        wanted[paths_in] = None
    rows = _read(place, list(wanted), str(path))
    folder = os.path.realpath(os.path.dirname(path))
    if in_cells:
        origins, contents, paths = _cells(place, schema, paths_in, folder)
    else:
        origins = paths = _paths(rows[paths_in], paths_in, str(path))
        contents = _contents(paths, folder, str(path))
    if not origins:
        raise InputError(f"{path} has no rows: name a table with a row for each image")
    classes: tuple[str, ...] = ()
    numbers: list[int | None] = [None] * len(origins)
    if labels_in is not None:
        numbers, classes = _labels(
            rows[labels_in], labels_in, str(path), _names_of_classes(schema, labels_in)
        )
    splits_of = _splits(rows[splits_in], str(path)) if splits_in else [split or "train"] * len(origins)
    keys = _keys(paths, folder) if keys_in is None else _own_keys(rows[keys_in], keys_in, str(path))

    splits: dict[str, list[Item]] = {name: [] for name in sorted(set(splits_of))}
    for row, name in enumerate(splits_of):
        splits[name].append(Item(keys[row], contents[row], numbers[row], origins[row]))
    return Source(os.path.splitext(os.path.basename(place))[0], "table", classes, classes, splits)


def _schema(place: str, path: str) -> pa.Schema:
    """Return the names and types of a table's columns; those of a CSV are not what they are read as."""
    extension = os.path.splitext(place)[1].lower()
    if extension != ".parquet" and extension not in DELIMITERS:
        raise InputError(f"{path} is no .parquet, .csv or .tsv: convert it to one of these")
    if not os.path.isfile(place):
        raise InputError(f"there is no file {path}; SOURCE must be a table")
    try:
        if extension == ".parquet":
            schema = pq.read_schema(place)
        else:
            with _open_csv(place, []) as reader:
                schema = reader.schema
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise InputError(f"{path} has two columns {twice[0]!r}: rename one")
    return schema


def _choose(
    asked: str | None, option: str, usual: Sequence[str], available: Sequence[str], path: str
) -> str | None:
    """Return the column that is asked for, or the first usual one that is there."""
    if asked is None:
        for name in usual:
            alike = [column for column in available if column.strip().lower() == name]
            if name in alike or len(alike) == 1:
                return name if name in alike else alike[0]
            if alike:
                raise InputError(
                    f"{path} has the columns {' and '.join(map(repr, alike))}: rename all but one"
                )
        return None
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
    return paths


def _cells(
    place: str, schema: pa.Schema, column: str, folder: str
) -> tuple[list[str], list[Content], list[str]]:
    """Return where each row's image comes from, its content, and its path ("" where it has none)."""
    where = list(cells.places(place))
    kind = schema.field(column).type
    paths: list[str | None] = [None] * len(where)
    if pa.types.is_struct(kind) and any(inner.name == cells.PATH for inner in kind):
        leaf = pq.ParquetFile(place).read([f"{column}.{cells.PATH}"])[column]
        paths = [value and value[cells.PATH] for value in leaf.to_pylist()]
    base = os.path.basename(place)
    origins = [text or f"{base}[{row}]" for row, text in enumerate(paths)]
    contents: list[Content] = [
        cells.Cell(place, column, group, row, _absolute(folder, text) if text else "")
        for (group, row), text in zip(where, paths, strict=True)
    ]
    return origins, contents, [text or "" for text in paths]


def _names_of_classes(schema: pa.Schema, column: str) -> list[str]:
    """Return the names that Hugging Face's notes in a parquet file have for a column's labels; [] without any."""
    try:
        notes: Any = json.loads((schema.metadata or {})[b"huggingface"])
        names = notes["info"]["features"][column]["names"]
        return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else []
    except (KeyError, ValueError, TypeError):
        return []


def _labels(
    column: pa.ChunkedArray, name: str, path: str, known: list[str]
) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the rows' labels and the classes; `known` are names of numbers."""
    texts: list[str] = []
    try:
        for value in column.to_pylist():
            texts.append(as_text(value))
    except LabelError as error:
        raise _no_label(path, len(texts), name, error) from None
    try:
        labels = Labels.of(set(texts))
        numbers = labels.numbers(set(texts))
    except LabelError as error:
        raise _no_label(path, texts.index(error.text), name, error) from None
    classes = labels.classes
    if not labels.named and len(classes) <= len(known):
        classes = tuple(known)
    return [None if numbers[text] == UNKNOWN else numbers[text] for text in texts], classes


def _no_label(path: str, row: int, name: str, error: LabelError) -> InputError:
    return InputError(
        f"{path}: row {row} (from 0) has in the column {name} {error}: change it, or leave it empty"
    )


def _splits(column: pa.ChunkedArray, path: str) -> list[str]:
    names = _texts(column, SPLIT_COLUMNS[0], path)
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


def _own_keys(column: pa.ChunkedArray, name: str, path: str) -> list[str]:
    """Return the keys that a column has: as they are, or refused."""
    if pa.types.is_integer(column.type):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
    else:
        texts = _texts(column, name, path)
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        what = ""
        if not text:
            what = "no key"
        elif "." in text:
            what = f"the key {text!r}, whose dot would end the sample's name"
        elif re.search(r"[\x00-\x1f\x7f]", text) or "" in text.split("/"):
            what = f"the key {text!r}, which cannot name a file in a tar"
        elif text in first:
            what = f"the key {text!r}, as row {first[text]} has"
        if what:
            raise InputError(
                f"{path}: row {row} (from 0) has in the column {name} {what}: change it, or name another "
                "--key-column"
            )
        first[text or ""] = row
    return list(first)


def _keys(paths: Sequence[str], folder: str) -> list[str]:
    """Name the samples: by their paths, and by their rows where that is "", a URL or the path of several."""
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
