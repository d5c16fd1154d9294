"""DICOM (extra `dicom`): the numbers that a scanner meant, by pydicom.

Stored numbers become the modality's (rescale slope and intercept, or its table: Hounsfield units of a CT), then
what is shown of them (the first window, or its table), with black as the least. Of several frames each is a
channel, and so are red, green and blue. What says who the patient is, is not looked at, and goes into no shard.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ccscale.data.images.extras import needed
from ccscale.errors import BadImage


def is_dicom(data: bytes) -> bool:
    """Return whether, by its first bytes, a file is DICOM."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, most_pixels: int) -> npt.NDArray[Any]:
    """Return an image's numbers, (height, width, channels): float32, of colours uint8 as they are stored.

    Raises
    ------
    BadImage
        If it is damaged, too large or holds no pixels; or if pydicom is missing.
    """
    pydicom = needed("pydicom", "DICOM", "dicom")
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space

    try:
        found = pydicom.dcmread(io.BytesIO(data))
        if "PixelData" not in found and "FloatPixelData" not in found and "DoubleFloatPixelData" not in found:
            raise BadImage("it is DICOM without an image")
        height, width = int(found.Rows), int(found.Columns)
        if height * width * int(found.get("NumberOfFrames") or 1) > most_pixels:
            raise BadImage(f"it claims {width} x {height} pixels, above the limit of {most_pixels:,}")
        values, meaning = found.pixel_array, str(found.PhotometricInterpretation)
        if int(found.get("SamplesPerPixel", 1)) > 1:
            if values.ndim != 3:
                raise BadImage("it has several colour frames, but must have one")
            if meaning.startswith("YBR"):
                values = convert_color_space(values, meaning, "RGB")
            return np.asarray(values)
        if meaning == "PALETTE COLOR":
            raise BadImage("it uses a colour palette: save it as RGB")
        values = apply_voi_lut(apply_modality_lut(values, found), found).astype(np.float32)
        if meaning == "MONOCHROME1":  # the least is white
            values = values.max() + values.min() - values
        return values[..., None] if values.ndim == 2 else np.moveaxis(values, 0, -1)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # whatever it stumbles over in broken data
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from error


def dicom_picture(data: bytes, most_pixels: int) -> Image.Image:
    """Return an image for who wants 8 bits: of its window, or from the least number to the greatest.

    Raises
    ------
    BadImage
        As `read_dicom` does, or if it has several frames.
    """
    values = read_dicom(data, most_pixels)
    if values.shape[2] not in (1, 3):
        raise BadImage(f"it has {values.shape[2]} frames, but must have one")
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = ((values - low) * (255 / max(high - low, 1e-30))).round().astype(np.uint8)
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    image.format = "DICOM"
    return image
