"""A table of images: parquet, CSV or TSV with a column of paths or URLs, and perhaps of labels, splits and keys.

path             label   split
cats/1.jpg       cat     train
https://…/7.png  dog     val

Relative paths are relative to the table's folder. Rows are counted from 0, the header of a CSV not among them. A
column that is not named by the user is found whatever the case of its name and the spaces around it. What labels
mean is told in `data/shards/labels.py`. A parquet's column may hold the images themselves (`cells.py`).
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
import pyarrow.parquet as pq

from ccscale.data.remote.downloads import Url
from ccscale.data.remote.location import SCHEMES, check_scheme, scheme
from ccscale.data.shards.labels import UNKNOWN, LabelError, Labels, as_text
from ccscale.data.shards.splits import check_split
from ccscale.data.sources import cells
from ccscale.data.sources.columns import Columns
from ccscale.data.sources.contents import Content, File
from ccscale.data.sources.items import Item, Source
from ccscale.errors import InputError

PATH_COLUMNS = ("path", "file", "filename", "image", "url")
LABEL_COLUMNS = ("label", "class")
SPLIT_COLUMNS = ("split",)
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
    columns = Columns(path)
    paths_in = columns.choose(path_column, "--path-column", PATH_COLUMNS)
    if paths_in is None:
        raise InputError(
            f"{path} has no column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}, only "
            f"{', '.join(columns.schema.names)}: choose the one with the paths with --path-column"
        )
    labels_in = columns.choose(label_column, "--label-column", LABEL_COLUMNS) if labels else None
    keys_in = columns.choose(key_column, "--key-column")
    splits_in = None
    if split is None:
        splits_in = columns.choose(None, "--split", SPLIT_COLUMNS)
    else:
        check_split(split, "--split")

    in_cells = columns.is_parquet and cells.holds_image(columns.schema.field(paths_in).type)
    wanted = dict.fromkeys(name for name in (labels_in, splits_in, keys_in) if name is not None)
    if not in_cells:
        wanted[paths_in] = None
    columns.read(list(wanted))
    folder = os.path.realpath(os.path.dirname(path))
    if in_cells:
        origins, contents, paths = _cells(columns, paths_in, folder)
    else:
        origins = paths = _paths(columns, paths_in)
        contents = _contents(paths, folder, columns.path)
    if not origins:
        raise InputError(f"{path} has no rows: give a table with one row per image")
    classes: tuple[str, ...] = ()
    numbers: list[int | None] = [None] * len(origins)
    if labels_in is not None:
        numbers, classes = _labels(columns, labels_in)
    splits_of = _splits(columns, splits_in) if splits_in else [split or "train"] * len(origins)
    keys = _keys(paths, folder) if keys_in is None else _own_keys(columns, keys_in)

    splits: dict[str, list[Item]] = {name: [] for name in sorted(set(splits_of))}
    for row, name in enumerate(splits_of):
        splits[name].append(Item(keys[row], contents[row], numbers[row], origins[row]))
    name = os.path.splitext(os.path.basename(columns.place))[0]
    return Source(name, "table", classes, classes, splits)


def _paths(columns: Columns, name: str) -> list[str]:
    """Return the paths and URLs, one for each row."""
    paths = []
    for row, text in enumerate(columns.texts(name)):
        if not text:
            what = f"row {row} (from 0) has no path in the column {name}"
            raise InputError(f"{columns.path}: {what}: fill it in, or drop the row")
        paths.append(text)
    return paths


def _cells(columns: Columns, column: str, folder: str) -> tuple[list[str], list[Content], list[str]]:
    """Return where each row's image comes from, its content, and its path ("" where it has none)."""
    place = columns.place
    where = list(cells.places(place))
    kind = columns.schema.field(column).type
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


def _labels(columns: Columns, name: str) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the rows' labels and the classes."""
    texts: list[str] = []
    try:
        for value in columns[name].to_pylist():
            texts.append(as_text(value))
    except LabelError as error:
        raise _no_label(columns.path, len(texts), name, error) from None
    try:
        labels = Labels.of(set(texts))
        numbers = labels.numbers(set(texts))
    except LabelError as error:
        raise _no_label(columns.path, texts.index(error.text), name, error) from None
    classes, known = labels.classes, _names_of_classes(columns.schema, name)
    if not labels.named and len(classes) <= len(known):
        classes = tuple(known)
    return [None if numbers[text] == UNKNOWN else numbers[text] for text in texts], classes


def _no_label(path: str, row: int, name: str, error: LabelError) -> InputError:
    return InputError(
        f"{path}: row {row} (from 0) has in the column {name} {error}: change it, or leave it empty"
    )


def _splits(columns: Columns, name: str) -> list[str]:
    names = columns.texts(name)
    first = {found: row for row, found in reversed(list(enumerate(names)))}
    for found, row in first.items():
        check_split(found or "", f"{columns.path}: row {row} (from 0): the split")
    return [found or "" for found in names]


def _contents(paths: Sequence[str], folder: str, path: str) -> list[Content]:
    """Return where to read each row's image."""
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


def _own_keys(columns: Columns, name: str) -> list[str]:
    """Return the keys that a column has: as they are, or refused."""
    if pa.types.is_integer(columns[name].type):
        texts = [None if value is None else str(value) for value in columns[name].to_pylist()]
    else:
        texts = columns.texts(name)
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
                f"{columns.path}: row {row} (from 0) has in the column {name} {what}: change it, or name another "
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
