"""A few labels: read from odd files, and what clusters are called by them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ccscale.errors import InputError
from ccscale.evaluate.given_labels import name_clusters, read_labels

KEYS = pa.array([f"a/{i}" for i in range(6)])
CLUSTERS = np.array([0, 0, 0, 2, 2, -1])
CONFIDENCE = np.linspace(0.5, 1, 6, dtype=np.float32)


def written(folder, text: str):
    path = folder / "few.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_both_formats_say_the_same(tmp_path):
    by_csv = read_labels(written(tmp_path, "class,more,key\ncat,1,a/0\ndog,2,a/3\n,,a/4\ncat,3,a/0\n"))
    pq.write_table(pa.table({"key": ["a/0", "a/3"], "class": ["cat", "dog"]}), tmp_path / "few.parquet")
    for found in (by_csv, read_labels(tmp_path / "few.parquet")):
        assert (found.keys.to_pylist(), found.classes) == (["a/0", "a/3"], ("cat", "dog"))
    by_csv.save(tmp_path / "kept.csv")
    assert read_labels(tmp_path / "kept.csv") == by_csv


def test_numbers_are_names_too(tmp_path):
    assert read_labels(written(tmp_path, "key,class\n1,007\n")).classes == ("007",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("key,label\na,cat\n", "has no column 'class'"),
        ("key,class\na,cat\na,dog\n", "gives a two classes, 'cat' and 'dog'"),
        ("key,class\na,\n", "has no label"),
        ("", "cannot be read"),
        ("key,class\na\n", "cannot be read"),
    ],
)
def test_what_is_no_table_of_labels_is_refused(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_labels(written(tmp_path, text))
    with pytest.raises(InputError, match="must be a"):
        read_labels(tmp_path / "labels.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")


def test_clusters_are_named_by_their_commonest_class(tmp_path):
    text = "key,class\na/0.JPG,cat\na/1,cat\na/2,dog\na/3,cat\na/5,owl\nb/9,cat\n"  # a/5 cannot be decoded
    found = name_clusters(read_labels(written(tmp_path, text)), KEYS, CLUSTERS, CONFIDENCE, 3)
    assert found.names.names == ("cat", None, "cat")
    assert (found.names.said, found.names.labels) == ((2, 0, 1), (3, 0, 1))
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.right.tolist() == [True, True, False, True]
    assert found.confidence.tolist() == CONFIDENCE[:4].tolist()
    figures = found.figures
    assert (figures["images"], figures["classes"]) == (4, {"cat": 3, "dog": 1})
    assert figures["unknown"] == ["b/9"]
    assert figures["purity"] == 0.75
    assert figures["left_out"] == 0.5  # the dog, and the only one of its cluster


def test_labels_of_other_images_are_refused(tmp_path):
    given = read_labels(written(tmp_path, "key,class\nz,cat\n"))
    with pytest.raises(InputError, match=r"none of 1 label is of an image of the run: .* 'a/0'; .* 'z'"):
        name_clusters(given, KEYS, CLUSTERS, CONFIDENCE, 3)
