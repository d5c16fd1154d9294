"""A picture of a store: some of its images, each with its nearest neighbours."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.draw.contact_sheet import TILE, Row, draw_sheet
from ccscale.draw.tiles import each_tile
from ccscale.embed.opening import check_belongs
from ccscale.errors import InputError
from ccscale.features.nearest import nearest, tiles
from ccscale.features.store import Features
from ccscale.features.vectors import Vectors
from ccscale.wording import class_name, counted

ROWS, COLUMNS = 16, 10


def draw_neighbours(path: str | Path, store: Features, shards: str | None = None) -> None:
    """Draw rows of a store at equal distances, each image followed by its nearest by cosine, into a PNG.

    Parameters
    ----------
    path
        Where it goes.
    store
        Of the images.
    shards
        Where these are now; by default where the store was made of them.

    Raises
    ------
    InputError
        If the shards are not there, or others, or no row has features.
    """
    manifest = Manifest.load(shards or store.listing.data.root)
    check_belongs(store.folder, store.listing, manifest)
    reader = SampleReader(store.manifest_at(manifest), store.splits)
    usable = np.flatnonzero(~store.bad)
    if not len(usable):
        raise InputError(f"no row of {store.folder} has features: there is nothing to draw")
    chosen = usable[np.linspace(0, len(usable) - 1, min(ROWS, len(usable))).round().astype(np.int64)]
    near, cosines = nearest_rows(store, chosen, COLUMNS)
    classes = store.listing.data.classes

    def line(number: int, row: int) -> Row:
        label = int(store.labels[row])
        name = class_name(classes, label) if label >= 0 else store.keys[row].as_py()
        same = store.labels[near[number]]
        detail = (
            f"{np.mean(same == label):.0%} of its class" if label >= 0 else f"cosine {cosines[number, 0]:.2f}"
        )
        return Row(name, detail, each_tile(reader, [row, *near[number].tolist()], TILE))

    lines = (line(number, int(row)) for number, row in enumerate(chosen))
    heading = f"{counted(len(chosen), 'image')} of {store.rows:,}, each with the {COLUMNS} most like it"
    draw_sheet(path, heading, lines, len(chosen), COLUMNS + 1)


def nearest_rows(
    store: Features, queries: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows nearest to some by cosine, exactly, (m, k), and the cosines; reads the store once."""
    vectors = Vectors.of_store(store).scaled()
    own = np.searchsorted(vectors.numbers, queries)
    bank = tiles(vectors, torch.device("cpu"))
    cosines, best = nearest(vectors.take(own), torch.from_numpy(own), bank, min(k, len(vectors) - 1))
    return vectors.numbers[best.numpy()], cosines.numpy()
