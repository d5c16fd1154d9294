"""The canvas of all pictures: creates it with a heading, and saves it."""

import io
import os

from PIL import Image, ImageDraw

from ccscale import atomic
from ccscale.draw.lettering import write

MARGIN, TITLE = 16, 34
LARGE, SMALL = 15, 12
INK, PAPER, FAINT = (32, 33, 36), (255, 255, 255), (128, 130, 135)


def begin(width: int, height: int, heading: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return a picture of a size in pixels with a line at its top, and the pen to draw on it with."""
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    write(pen, (MARGIN, MARGIN), heading, width - 2 * MARGIN, LARGE, INK)
    return picture, pen


def save(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture as a PNG atomically."""
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    atomic.write_bytes(path, data.getvalue())
