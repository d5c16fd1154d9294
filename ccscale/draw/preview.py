"""``ccscale shards info --preview``: a contact sheet of a data set, the same for the same shards.

A row for each class, up to `MANY`, and one for the images without a label; where there are no labels at all, a
grid. The images are spread evenly over those of the class, in the order of the shards.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ccscale.data.reader import SampleReader
from ccscale.data.shards.index import read_index
from ccscale.data.shards.labels import UNKNOWN
from ccscale.data.shards.manifest import Manifest
from ccscale.draw.canvas import LARGE
from ccscale.draw.contact_sheet import TEXT, Row, draw_sheet
from ccscale.draw.lettering import width_of
from ccscale.draw.tiles import each_tile
from ccscale.errors import InputError
from ccscale.wording import class_name

MANY = 20  # rows of classes
COLUMNS = 12
GRID = 8  # rows where there are no labels
TILE = 72
WIDEST_TEXT = 240


def draw_preview(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> None:
    """Draw a contact sheet of the shards in a folder.

    Parameters
    ----------
    path
        Where the PNG goes; its folder must be there.
    root
        Local folder or URL of the shards.

    Raises
    ------
    InputError
        If there is no valid manifest, a shard cannot be read, or `path` is no place for a PNG.
    """
    path = Path(path)
    check_target(path)
    manifest = Manifest.load(root)
    reader = SampleReader(manifest, list(manifest.splits))
    # Indexes of the samples in the reader's order, which is the manifest's.
    parts = [read_index(manifest, shard).labels for shard in manifest.shards]
    labels = np.concatenate([np.empty(0, np.int64), *parts])
    present = np.unique(labels)
    shown = present[present != UNKNOWN][:MANY]
    heading = f"{manifest.name}: {len(labels):,} images"
    footer = ""
    if len(shown):
        heading += f" in {len(present[present != UNKNOWN]):,} classes"
        hidden = int((present != UNKNOWN).sum()) - len(shown)
        footer = f"{hidden:,} more classes are not shown" if hidden else ""
        members = [
            (class_name(manifest.classes, int(label)), np.flatnonzero(labels == label)) for label in shown
        ]
        if UNKNOWN in present:
            members.append(("no label", np.flatnonzero(labels == UNKNOWN)))
    else:
        chosen = spread(np.arange(len(labels)), GRID * COLUMNS)
        members = [("", chosen[start : start + COLUMNS]) for start in range(0, len(chosen), COLUMNS)]
    rows = (
        Row(name, f"{len(inside):,} images", each_tile(reader, spread(inside, COLUMNS).tolist(), TILE))
        for name, inside in members
    )
    columns = min(COLUMNS, max((len(inside) for _, inside in members), default=1))
    text = _text_width([name for name, _ in members]) if len(shown) else 0
    with writing(path):
        draw_sheet(path, heading, rows, len(members), columns, tile=TILE, text=text, footer=footer)


def check_target(path: Path) -> None:
    """Refuse a path where no PNG can go."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} does not end with .png: the preview is a PNG file")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for {path.name}: create it first")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Refuse, in a sentence, a file that cannot be written to."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another file") from None


def spread(samples: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return up to `count` of the samples, from the first to the last at equal distances."""
    if len(samples) <= count:
        return samples
    return samples[np.arange(count) * (len(samples) - 1) // max(count - 1, 1)]


def _text_width(names: list[str]) -> int:
    widest = max((width_of(name, LARGE) for name in names), default=0)
    return int(min(max(widest + 16, TEXT * 2 // 3), WIDEST_TEXT))
