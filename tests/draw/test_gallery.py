"""The picture of clusters: its size, which images are in it, and where."""

import numpy as np
import pytest
from PIL import Image

from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.draw.canvas import MARGIN, PAPER, TITLE
from ccscale.draw.contact_sheet import GAP, TEXT, TILE
from ccscale.draw.gallery import _describe, draw_gallery

K, COLUMNS = 4, 5


@pytest.fixture(scope="module")
def reader(manifest):
    return SampleReader(manifest, ("train",))


@pytest.fixture(scope="module")
def found(reader):
    """Cluster 2 is empty, cluster 3 has two images, some samples have no cluster."""
    rng = np.random.default_rng(1)
    count = len(reader)
    clusters = rng.integers(-1, 2, count)
    clusters[[7, 90]] = 3
    return clusters, rng.permutation(count).astype(np.float32) / count, rng.integers(0, 3, count)


@pytest.fixture(scope="module")
def picture(reader, found, tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "clusters.png"
    draw_gallery(path, reader, *found, K, ("cat", "dog", "cow"), columns=COLUMNS)
    assert [entry.name for entry in path.parent.iterdir()] == ["clusters.png"]
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image)


def tile(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    top = MARGIN + TITLE + row * (TILE + GAP)
    left = MARGIN + TEXT + column * (TILE + GAP)
    return picture[top : top + TILE, left : left + TILE]


def test_size(picture):
    assert picture.shape == (
        2 * MARGIN + TITLE + K * (TILE + GAP),
        2 * MARGIN + TEXT + COLUMNS * (TILE + GAP),
        3,
    )


def test_surest_images_first(picture, reader, found):
    shown = 0
    clusters, confidence, _ = found
    for cluster in range(K):
        members = [i for i in range(len(reader)) if clusters[i] == cluster]
        surest = sorted(members, key=lambda i: -confidence[i])[:COLUMNS]
        for column, sample in enumerate(surest):
            expected = whole_image(reader[sample].data, TILE)
            assert (tile(picture, cluster, column) == expected).all()
            shown += 1
        for column in range(len(surest), COLUMNS):
            assert (tile(picture, cluster, column) == PAPER).all()
    assert shown == 5 + 5 + 0 + 2


def test_every_row_has_its_name(picture):
    for row in range(K):
        top = MARGIN + TITLE + row * (TILE + GAP)
        words = picture[top : top + TILE, MARGIN : MARGIN + TEXT]
        assert (words != PAPER).any()
    assert (picture[:MARGIN] == PAPER).all()
    assert (picture[-MARGIN:] == PAPER).all()


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([7, 7], ("cat",), "2 images, 100% '7'"),  # others' labels may be beyond the classes
        ([0, 1, 1, 1], ("cat", "dog"), "4 images, 75% 'dog'"),
        ([0, -1, -1, -1], ("cat", "dog"), "4 images, 100% 'cat'"),
        ([-1] * 1234, ("cat",), "1,234 images"),
        ([0, 1], (), "2 images"),
        ([], ("cat",), "0 images"),
    ],
)
def test_words_beside_a_row(labels, classes, expected):
    assert _describe(np.array(labels, dtype=np.int64), classes) == expected
