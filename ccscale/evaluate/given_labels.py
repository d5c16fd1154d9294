"""A few labels given by a user: keys of images with their classes, from which clusters get their names.

A .csv or .parquet file with the columns ``key`` and ``class``. A key may have an image's ending, as a path has.
Each cluster is named after the most common class of its images (the first of ties); one without labels keeps its
number.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.array_types import Int64
from ccscale.data.images.extensions import EXTENSIONS
from ccscale.errors import InputError
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.matching import many_to_one
from ccscale.evaluate.metrics import score_table
from ccscale.wording import counted

COLUMNS = ("key", "class")


@dataclass(frozen=True)
class GivenLabels:
    """Labels of some images: unique keys, and the class of each."""

    keys: pa.StringArray
    classes: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write them as a .csv file."""
        table = pa.table({"key": self.keys, "class": pa.array(self.classes, pa.string())})
        with atomic.replacing(path) as file:
            pa.csv.write_csv(table, file)

    def find(self, keys: pa.StringArray) -> tuple[Int64, Int64]:
        """Return the labelled ones of some images: their positions in `keys`, and those of their labels."""
        places = pc.index_in(self.keys, value_set=keys)
        bare = pc.replace_substring_regex(self.keys, rf"(?i)\.({'|'.join(EXTENSIONS)})$", "")
        places = pc.coalesce(places, pc.index_in(bare, value_set=keys)).fill_null(-1).to_numpy(False)
        return places[places >= 0].astype(np.int64), np.flatnonzero(places >= 0)


def read_labels(path: str | Path) -> GivenLabels:
    """Read a file of labels; rows without a class are ignored.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, has no label, or two for one image.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(path)
        elif path.suffix == ".csv":
            as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))
            table = pa.csv.read_csv(path, convert_options=as_text)
        else:
            raise InputError(f"the labels in {path} must be a .csv or .parquet file")
        lacking = [name for name in COLUMNS if name not in table.column_names]
        if lacking:
            raise InputError(
                f"{path} has no column '{lacking[0]}': labels need the columns 'key' and 'class'"
            )
        table = table.select(COLUMNS).cast(pa.schema([(name, pa.string()) for name in COLUMNS]))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"the labels in {path} cannot be read: {' '.join(str(error).split())}") from None
    table = table.filter(pc.greater(pc.utf8_length(pc.fill_null(table["class"], "")), 0)).drop_null()
    found: dict[str, str] = {}
    for key, name in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True):
        if found.setdefault(key, name) != name:
            raise InputError(f"{path} gives {key} two classes, '{found[key]}' and '{name}': remove one")
    if not found:
        raise InputError(f"{path} has no labels: give one row per image, with its key and class")
    return GivenLabels(pa.array(found.keys(), pa.string()), tuple(found.values()))


@dataclass(frozen=True)
class Names:
    """Names of clusters by given labels.

    Attributes
    ----------
    names
        The name of each of K clusters; None without labels.
    said, labels
        Number of labels of that class in each cluster, and of all its labels.
    """

    names: tuple[str | None, ...]
    said: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Named:
    """The result of naming clusters by given labels.

    Attributes
    ----------
    names
        Names of the clusters.
    rows, confidence, right
        (l,): the labelled images' places among all; their confidence; whether the name of the cluster is the class.
    figures
        ``images`` with a label; ``classes``, how many each has; ``unknown`` keys of no image; against these labels
        ``acc``, ``purity``, ``nmi``, ``ari``, ``f``; and ``left_out``, how many are right by the names that the
        other labels give, which is what to expect of images without a label.
    """

    names: Names
    rows: Int64
    confidence: NDArray[np.float32]
    right: NDArray[np.bool_]
    figures: dict[str, Any]


def name_clusters(
    given: GivenLabels, keys: pa.StringArray, clusters: Int64, confidence: NDArray[np.float32], k: int
) -> Named:
    """Name clusters by the labels of some of their images.

    Parameters
    ----------
    given
        The labels.
    keys, clusters, confidence
        Of all images; a cluster is -1 for one that cannot be decoded.
    k
        K.

    Raises
    ------
    InputError
        If none of the images has a label.
    """
    rows, places = given.find(keys)
    unknown = np.setdiff1d(np.arange(len(given.classes)), places)
    rows, places = rows[clusters[rows] >= 0], places[clusters[rows] >= 0]
    if not len(rows):
        raise InputError(
            f"none of {counted(len(given.classes), 'label')} is of an image of the run: a key is an image's in the "
            f"run's assignments.parquet, as '{keys[0].as_py() if len(keys) else ''}'; the first label has "
            f"'{given.keys[0].as_py()}'"
        )
    classes = sorted({given.classes[place] for place in places})
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[given.classes[place]] for place in places])
    of = clusters[rows]
    table = Contingency.of(of, labels, k)
    counts = table.to_array()
    majority = many_to_one(table)
    others = counts[of]
    others[np.arange(len(of)), labels] -= 1
    left_out = (others.argmax(axis=1) == labels) & (others.max(axis=1) > 0)
    names = Names(
        tuple(classes[label] if label >= 0 else None for label in majority.tolist()),
        tuple(counts.max(axis=1).tolist()),
        tuple(counts.sum(axis=1).tolist()),
    )
    figures = {
        "images": len(rows),
        "classes": dict(Counter(given.classes[place] for place in places)),
        "unknown": [given.keys[int(place)].as_py() for place in unknown],
        **score_table(table),
        "left_out": float(left_out.mean()),
    }
    return Named(names, rows, confidence[rows], majority[of] == labels, figures)
