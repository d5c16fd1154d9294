"""Small pictures of images."""

import io

import numpy as np
from PIL import Image

from ccscale.draw.tiles import square


def test_the_square_in_the_middle():
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = (200, 10, 10)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert (square(file.getvalue(), 50) == (200, 10, 10)).all()
    tiny = np.zeros((8, 8, 3), np.uint8)
    tiny[3, 4] = 255
    file = io.BytesIO()
    Image.fromarray(tiny).save(file, "PNG")
    found = square(file.getvalue(), 64)
    assert (found[24:32, 32:40] == 255).all()
    assert found.sum() == 255 * 3 * 64  # pixels stay pixels
