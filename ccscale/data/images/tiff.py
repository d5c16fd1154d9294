"""TIFFs with all their numbers: 16 bits, floating point, any channels, as pages or planes or pixel by pixel.

Pillow reads TIFFs of 8 bits, and of others the first page; tifffile (extra `tiff`) reads what microscopes and
satellites write: ImageJ's and OME's series, GeoTIFF, planar and interleaved channels, LZW, Deflate, Zstandard,
JPEG. The axes that are neither height nor width are the channels; there may be one such axis of more than one step.
"""

import io
import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from ccscale.data.images.extras import needed
from ccscale.errors import BadImage

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _PALETTE = 0, 3
_MOST_BYTES = 2**31  # of an image's numbers
# EXIF's orientation as (transposed, mirrored top to bottom, mirrored left to right), in this order.
_TURNS = {2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1), 8: (1, 1, 0)}

logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


def read_tiff(data: bytes, most_pixels: int) -> npt.NDArray[Any]:
    """Return a TIFF's numbers, (height, width, channels), upright, in their own type.

    Raises
    ------
    BadImage
        If it is damaged, too large, or has another axis beside channels; or if tifffile is missing.
    """
    tifffile = needed("tifffile", "TIFF in full", "tiff")
    try:
        # Of a set of files (OME) the others are not looked for: a name in a file leads nowhere.
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
            series = file.series[0]
            shape = dict(zip(series.axes, series.shape, strict=True))
            others = [axis for axis, length in shape.items() if axis not in "YX" and length > 1]
            height, width = shape.get("Y", 0), shape.get("X", 0)
            if not height * width:
                raise BadImage("it has no height or no width")
            if height * width > most_pixels:
                raise BadImage(f"it claims {width} x {height} pixels, above the limit of {most_pixels:,}")
            if series.dtype is None or series.size * series.dtype.itemsize > _MOST_BYTES:
                raise BadImage(f"it claims {series.size:,} values, above the limit")
            if len(others) > 1:
                told = " x ".join(f"{axis} {shape[axis]}" for axis in others)
                raise BadImage(
                    f"it has {told} besides height and width, but only one of them can be the channels: "
                    "project or split the others"
                )
            tags = file.pages.first.tags
            meaning, turn = (tags.valueof(code, 1) for code in (262, 274))
            if meaning == _PALETTE:
                raise BadImage("it uses a colour palette: save it as RGB")
            values = np.asarray(series.asarray(maxworkers=1))
            axes = list(series.axes)
    except BadImage:
        raise
    except MemoryError:
        raise
    except Exception as error:  # whatever it stumbles over in broken data
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error
    kept = [place for place, axis in enumerate(axes) if axis in ("Y", "X", *others)]
    values = values.reshape([values.shape[place] for place in kept])
    order = [axes[place] for place in kept]
    values = values.transpose([order.index(axis) for axis in ("Y", "X", *others)])
    values = values.reshape(height, width, -1)
    if meaning == _WHITE_IS_ZERO and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values
    if turn in _TURNS:
        transposed, down, across = _TURNS[turn]
        values = values.swapaxes(0, 1) if transposed else values
        values = values[:: -1 if down else 1, :: -1 if across else 1]
    return values
