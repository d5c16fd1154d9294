"""A contact sheet: rows of small images with their names at the left, as a PNG.

heading
name   [tile] [tile] [tile] …
detail
name   [tile] …
footer
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ccscale.draw.canvas import FAINT, INK, LARGE, MARGIN, SMALL, TITLE, begin, save
from ccscale.draw.lettering import write

TILE, GAP, TEXT = 56, 4, 150


@dataclass(frozen=True)
class Row:
    """A row of the sheet.

    Attributes
    ----------
    name, detail
        What stands at its left, in two lines.
    tiles
        Its images from left to right, uint8, shape (tile, tile, 3), or None for one that cannot be read; looked at
        once.
    """

    name: str
    detail: str
    tiles: Iterable[npt.NDArray[np.uint8] | None]


def draw_sheet(
    path: str | os.PathLike[str],
    heading: str,
    rows: Iterable[Row],
    count: int,
    columns: int,
    *,
    tile: int = TILE,
    text: int = TEXT,
    footer: str = "",
) -> None:
    """Draw a contact sheet and write it atomically.

    Parameters
    ----------
    path
        Where the PNG goes.
    heading
        A line above the rows.
    rows
        From top to bottom; drawn one after the other.
    count
        Their number.
    columns
        Images in a row, at most.
    tile
        Side of an image in pixels.
    text
        Width of the names at the left in pixels; longer names are cut. 0: there are none.
    footer
        A line below the rows.
    """
    width = 2 * MARGIN + text + columns * (tile + GAP)
    height = 2 * MARGIN + TITLE + count * (tile + GAP) + (TITLE if footer else 0)
    picture, pen = begin(width, height, heading)
    for number, row in enumerate(rows):
        top = MARGIN + TITLE + number * (tile + GAP)
        if text:
            middle = top + tile // 2
            write(pen, (MARGIN, middle - 20), row.name, text - 10, LARGE, INK)
            write(pen, (MARGIN, middle + 2), row.detail, text - 10, SMALL, FAINT)
        for column, pixels in enumerate(row.tiles):
            left = MARGIN + text + column * (tile + GAP)
            if pixels is None:
                box = (left, top, left + tile - 1, top + tile - 1)
                pen.rectangle(box, outline=FAINT)
                pen.line(box, FAINT)
            else:
                picture.paste(Image.fromarray(pixels), (left, top))
    if footer:
        write(pen, (MARGIN, height - MARGIN - 20), footer, width - 2 * MARGIN, SMALL, FAINT)
    save(picture, path)
