"""The resize of an exported program gives Pillow's bytes."""

import numpy as np
import pytest
import torch
from PIL import Image

from ccscale.export.resize import PillowResize

SIZES = [
    (64, 64),
    (375, 500),
    (500, 375),
    (31, 300),
    (300, 31),
    (33, 32),
    (1, 1),
    (7, 9),
    (129, 131),
    (65, 48),
]


@pytest.mark.parametrize("size", [16, 32, 96])
def test_the_bytes_are_pillows(size):
    resize, rng = PillowResize(size), np.random.default_rng(size)
    for height, width in [*SIZES, (2 * size, size), (size, 2 * size), (size, size), (2 * size + 1, size + 1)]:
        images = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        images[1] = images[1] // 128 * 255  # the ends of the range
        wanted = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images]
        found = resize(torch.from_numpy(images)).permute(0, 2, 3, 1).numpy()
        assert (found == np.stack([np.asarray(image) for image in wanted])).all(), (height, width)


def test_an_older_pillow_begins_with_the_width(monkeypatch):
    monkeypatch.setattr("ccscale.export.resize._tall_images_are_turned", lambda: False)
    resize, tall = PillowResize(16), torch.randint(0, 256, (1, 64, 20, 3), dtype=torch.uint8)
    pixels = tall.permute(0, 3, 1, 2).float()
    assert torch.equal(resize(tall), resize.columns_first(pixels))
    assert not torch.equal(resize(tall), resize.rows_first(pixels))
