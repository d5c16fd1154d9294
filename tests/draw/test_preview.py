"""The contact sheet of a data set: which images are in it, and where."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccscale.cli.main import main
from ccscale.data.conversion.shards import make_shards
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.contents import Bytes
from ccscale.data.sources.items import Item, Source
from ccscale.draw import view_sheet
from ccscale.draw.canvas import FAINT, MARGIN, PAPER, TITLE
from ccscale.draw.contact_sheet import GAP
from ccscale.draw.preview import COLUMNS, GRID, MANY, TILE, draw_preview, spread
from ccscale.errors import InputError


def shade(number: int) -> tuple[int, int, int]:
    """Return a colour of its own for each image."""
    return 40 + number % 200, number // 200, 90


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), shade(number)).save(file, "PNG")
    return file.getvalue()


def make(root: Path, labels: list[int | None], classes: int) -> Manifest:
    items = [Item(f"{i:04d}", Bytes(png(i)), label, f"{i}") for i, label in enumerate(labels)]
    names = tuple(f"class {i}" for i in range(classes))
    source = Source("many colours", "digits", names, names, {"train": items[::2], "val": items[1::2]})
    return make_shards(source, root, shard_samples=40, workers=1, progress=False)


def draw(root: Path) -> np.ndarray:
    path = root.parent / f"{root.name}.png"
    draw_preview(path, root)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.array(image)


def tiles(picture: np.ndarray, row: int, left: int) -> list[tuple[int, int, int]]:
    """Return the colours of the tiles in a row, which must fill their places."""
    found = []
    top = MARGIN + TITLE + row * (TILE + GAP)
    for column in range((picture.shape[1] - MARGIN - left) // (TILE + GAP)):
        x = left + column * (TILE + GAP)
        tile = picture[top : top + TILE, x : x + TILE].reshape(-1, 3)
        assert (tile == tile[0]).all()
        found.append(tuple(int(value) for value in tile[0]))
    return found


def order(manifest: Manifest, label: int) -> list[tuple[int, int, int]]:
    """Return the colours of a label's images in the order of the shards."""
    reader = SampleReader(manifest, list(manifest.splits))
    samples = [reader[i] for i in range(len(reader))]
    return [shade(int(sample.key)) for sample in samples if sample.label == label]


def test_a_row_for_each_class_and_one_for_no_label(tmp_path):
    labels = [i % 3 if i < 120 else None for i in range(130)]
    manifest = make(tmp_path / "x", labels, 3)
    picture = draw(tmp_path / "x")
    left = picture.shape[1] - MARGIN - COLUMNS * (TILE + GAP)
    assert picture.shape[0] == 2 * MARGIN + TITLE + 4 * (TILE + GAP)
    for row, label in enumerate([0, 1, 2, -1]):
        inside = order(manifest, label)
        shown = tiles(picture, row, left)
        if label == -1:
            assert shown == [*inside, PAPER, PAPER]
        else:
            assert shown == [inside[i * 39 // 11] for i in range(12)]
        top = MARGIN + TITLE + row * (TILE + GAP)
        words = picture[top : top + TILE, MARGIN : left - 8]
        assert (words != PAPER).any()
    assert (picture[:MARGIN] == PAPER).all()
    assert (picture[-MARGIN:] == PAPER).all()


def test_a_grid_where_there_are_no_labels(tmp_path):
    manifest = make(tmp_path / "x", [None] * 250, 0)
    picture = draw(tmp_path / "x")
    assert picture.shape[:2] == (
        2 * MARGIN + TITLE + GRID * (TILE + GAP),
        2 * MARGIN + COLUMNS * (TILE + GAP),
    )
    inside = order(manifest, -1)
    shown = [colour for row in range(GRID) for colour in tiles(picture, row, MARGIN)]
    assert shown == [inside[i * 249 // 95] for i in range(96)]
    assert len(set(shown)) == 96


def test_few_images_make_a_small_sheet(tmp_path):
    make(tmp_path / "x", [None] * 3, 0)
    assert draw(tmp_path / "x").shape[:2] == (2 * MARGIN + TITLE + TILE + GAP, 2 * MARGIN + 3 * (TILE + GAP))


def test_many_classes_are_cut_with_a_note(tmp_path):
    make(tmp_path / "x", [i % 25 for i in range(50)], 25)
    picture = draw(tmp_path / "x")
    assert picture.shape[0] == 2 * MARGIN + TITLE + MANY * (TILE + GAP) + TITLE
    note = picture[-MARGIN - 24 : -MARGIN]
    assert (note == FAINT).all(axis=2).any()


def test_the_same_bytes_each_time(tmp_path):
    make(tmp_path / "x", [0, 1, None] * 30, 2)
    for name in ("a.png", "b.PNG"):
        draw_preview(tmp_path / name, tmp_path / "x")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.PNG").read_bytes()


def test_an_image_that_cannot_be_decoded_is_a_crossed_box(tmp_path, monkeypatch):
    manifest = make(tmp_path / "x", [0, 0], 1)
    shard = Path(manifest.locate(manifest.shards[0]))
    shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDOT"))
    picture = draw(tmp_path / "x")
    left = picture.shape[1] - MARGIN - 2 * (TILE + GAP)
    top = MARGIN + TITLE
    box = picture[top : top + TILE, left : left + TILE]
    assert {tuple(map(int, pixel)) for pixel in box.reshape(-1, 3)} == {PAPER, FAINT}
    assert (np.diagonal(box).T == FAINT).all()


def test_spread():
    assert spread(np.arange(5), 12).tolist() == [0, 1, 2, 3, 4]
    assert spread(np.arange(100), 3).tolist() == [0, 49, 99]
    assert spread(np.arange(7), 1).tolist() == [0]
    assert spread(np.arange(0), 3).tolist() == []


def test_the_command(tmp_path, capsys):
    make(tmp_path / "x", [0, 1] * 5, 2)
    target = tmp_path / "sheet.png"
    assert main(["shards", "info", "--preview", str(target), str(tmp_path / "x"), "--json"]) == 0
    assert f'"preview": "{target}"' in capsys.readouterr().out
    with Image.open(target) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sheet.jpg", "does not end with .png"),
        ("none/sheet.png", "there is no folder"),
        ("x/x.png", "cannot be"),
    ],
)
def test_what_is_refused(tmp_path, name, message):
    make(tmp_path / "shards", [0, 1], 2)
    (tmp_path / "x/x.png.part").mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        draw_preview(tmp_path / name, tmp_path / "shards")
    assert not list(tmp_path.rglob("sheet*"))


def test_a_sheet_of_views_shows_what_training_will_see(tmp_path, capsys):
    """Rows: as they are; views a and b of three epochs; weak and strong of three. Twelve images of the split."""
    make(tmp_path / "x", [0, 1] * 20, 2)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{shards: {tmp_path / 'x'}}}\nmodel: {{clusters: 2}}\n"
        "views: {size: 24, flip: 0, jitter: 0, grey: 0}\nstages: {boost: {epochs: 5}}\n"
    )
    for name in ("a.png", "b.png"):
        assert main(["config", str(config), "--views", str(tmp_path / name)]) == 0
    assert "clusters: 2" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        picture = np.array(image)
    tile, text = view_sheet.TILE, view_sheet.TEXT
    assert picture.shape == (2 * MARGIN + TITLE + 13 * (tile + GAP), 2 * MARGIN + text + 12 * (tile + GAP), 3)
    middles = picture[MARGIN + TITLE + tile // 2 :: tile + GAP, MARGIN + text + tile // 2 :: tile + GAP][
        :13, :12
    ]
    assert (middles[:7] == middles[0]).all()  # an image of one colour is that in each crop of it
    reader = SampleReader(Manifest.load(tmp_path / "x"), ["train"])
    assert [tuple(map(int, middle)) for middle in middles[0]] == [
        shade(int(reader[i].key)) for i in spread(np.arange(20), 12).tolist()
    ]
    assert (middles[8::2] != middles[0]).any()  # strong


def test_views_are_drawn_of_shards_named_in_a_config(tmp_path, capsys):
    store = tmp_path / "store.yaml"
    store.write_text("data: {features: here}\nmodel: {clusters: 2}\n")
    for arguments, message in (
        (["config", "--views", "v.png"], "give one, as in"),
        (["config", str(store), "--views", "v.png"], "--views needs a config with data.shards"),
    ):
        assert main(arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
