"""Small square pictures of images; many in a file: a sheet is a grid of them, encoded once as WebP."""

import base64
import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccscale.data.images.channels import open_picture
from ccscale.data.images.decode import crop, decode
from ccscale.data.reader import SampleReader
from ccscale.errors import BadImage
from ccscale.pool import Tick

COLUMNS = 8
QUALITY = 75
AT_ONCE = 512  # images read together from remote shards
BOUND = 2**28  # their bytes
MISSING = 128  # grey, for an image that cannot be decoded

# (sorted rows of the table, side of a tile in pixels, who counts the tiles) -> (n, side, side, 3) uint8
ReadTiles = Callable[[NDArray[np.int64], int, Tick], NDArray[np.uint8]]


def square(data: bytes, size: int, shown: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Decode an image and return the square in its middle, uint8, shape (size, size, 3); raises BadImage.

    For `shown` see `open_picture`.
    """
    encoded = open_picture(data, shown)
    side = min(encoded.width, encoded.height)
    left, top = (encoded.width - side) // 2, (encoded.height - side) // 2
    image, (box,) = decode(encoded, [(left, top, left + side, top + side)], size)
    # Enlarged pixels stay pixels, so that digits of 8x8 are not a blur.
    how = Image.Resampling.BICUBIC if side * 2 >= size else Image.Resampling.NEAREST
    part = crop(image, (round(box[0]), round(box[1]), round(box[2]), round(box[3])))
    return np.array(part.resize((size, size), how))


def each_tile(reader: SampleReader, samples: Iterable[int], side: int) -> Iterator[NDArray[np.uint8] | None]:
    """Yield samples as tiles, the square in the middle of each image; None for one that cannot be decoded."""
    for sample in samples:
        try:
            yield square(reader[sample].data, side, reader.shown)
        except BadImage:
            yield None


def grey_tiles(samples: NDArray[np.int64], side: int, tick: Tick) -> NDArray[np.uint8]:
    """Return tiles of images that are not there."""
    tick(len(samples))
    return np.full((len(samples), side, side, 3), MISSING, dtype=np.uint8)


def tiles_of(reader: SampleReader) -> ReadTiles:
    """Return a function that reads samples as tiles, the square in the middle of each image."""

    def read(samples: NDArray[np.int64], side: int, tick: Tick) -> NDArray[np.uint8]:
        tiles = np.full((len(samples), side, side, 3), MISSING, dtype=np.uint8)
        for start in range(0, len(samples), AT_ONCE):
            part = samples[start : start + AT_ONCE].tolist()
            remote = reader.read_remote(part, BOUND)
            for place, sample in enumerate(part, start):
                data = remote[sample] if sample in remote else reader[sample].data
                with contextlib.suppress(BadImage):
                    tiles[place] = square(data, side, reader.shown)
                tick()
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
