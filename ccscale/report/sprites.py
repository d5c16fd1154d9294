"""Small pictures of images, many in a file: a sheet is a grid of square tiles, encoded once as WebP."""

import base64
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccscale.data.reader import SampleReader
from ccscale.draw.preview import square
from ccscale.errors import BadImage
from ccscale.progress import Meter

COLUMNS = 8
QUALITY = 75
AT_ONCE = 512  # images read together from remote shards
BOUND = 2**28  # their bytes
MISSING = 128  # grey, for an image that cannot be decoded

# (sorted rows of the table, side of a tile in pixels) -> (n, side, side, 3) uint8
ReadTiles = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]


def tiles_of(reader: SampleReader) -> ReadTiles:
    """Return a function that reads samples as tiles, the square in the middle of each image."""

    def read(samples: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
        tiles = np.full((len(samples), side, side, 3), MISSING, dtype=np.uint8)
        with Meter("drawing", len(samples), "images", show=True) as meter:
            for start in range(0, len(samples), AT_ONCE):
                part = samples[start : start + AT_ONCE].tolist()
                remote = reader.read_remote(part, BOUND)
                for place, sample in enumerate(part, start):
                    data = remote[sample] if sample in remote else reader[sample].data
                    try:
                        tiles[place] = square(data, side)
                    except BadImage:
                        continue
                meter.advance(len(part))
        return tiles

    return read


def encode_sheet(tiles: NDArray[np.uint8]) -> str:
    """Return (n, side, side, 3) tiles as a WebP in base64, `COLUMNS` in a row, row by row; "" for none."""
    count, side = len(tiles), tiles.shape[1]
    if not count:
        return ""
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, side, side, 3), dtype=np.uint8)
    sheet[:count] = tiles
    grid = sheet.reshape(rows, COLUMNS, side, side, 3).swapaxes(1, 2).reshape(rows * side, COLUMNS * side, 3)
    data = io.BytesIO()
    Image.fromarray(grid).save(data, format="WEBP", quality=QUALITY, method=4)
    return base64.b64encode(data.getvalue()).decode()
