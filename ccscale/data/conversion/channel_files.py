"""Prepares multi-channel images for shards: their unchanged bytes, or a TIFF of their values."""

import io

import numpy as np
from PIL import Image

from ccscale.data.images.channels import read_values
from ccscale.data.images.dicom import is_dicom
from ccscale.data.images.extras import needed
from ccscale.data.images.formats import reader_of
from ccscale.data.images.tiff import MAGICS
from ccscale.errors import BadImage

_STORED = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # with their bytes as they are, beside TIFF


def prepare_channels(data: bytes, channels: int, resize: int | None) -> tuple[bytes, str]:
    """Check an image of channels and return what to store: (bytes, extension).

    What is reduced, or is DICOM or of another format, becomes a TIFF of its numbers, and loses its metadata.

    Parameters
    ----------
    data
        The encoded image.
    channels
        How many it is to have.
    resize
        Length in pixels that the short side is reduced to; None: as it is.

    Raises
    ------
    BadImage
        With the reason.
    """
    values = read_values(data)
    if values.shape[2] != channels:
        raise BadImage(f"it has {values.shape[2]} channels, not {channels}")
    height, width = values.shape[:2]
    short = min(height, width)
    shrinks = resize is not None and resize < short
    if not shrinks:
        if data.startswith(MAGICS):
            return data, "tif"
        if not is_dicom(data) and (own := _STORED.get(reader_of(data).format or "")):
            return data, own
    else:
        assert resize is not None
        size = tuple(max(1, round(side * resize / short)) for side in (width, height))
        planes = [Image.fromarray(values[..., i].astype(np.float32)) for i in range(channels)]
        small = np.stack(
            [np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes], axis=-1
        )
        values = (small if values.dtype.kind == "f" else small.round()).astype(values.dtype)
    file = io.BytesIO()
    tifffile = needed("tifffile", "to be stored as TIFF", "tiff")
    # No time, no name of a program: the same numbers give the same bytes.
    planar = {"planarconfig": "separate"} if channels > 1 else {}
    tifffile.imwrite(
        file, np.moveaxis(values, -1, 0) if channels > 1 else values[..., 0], photometric="minisblack",
        metadata=None, software=False, compression="zlib", predictor=values.dtype.kind != "f", **planar,
    )  # fmt: skip
    return file.getvalue(), "tif"
