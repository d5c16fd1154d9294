"""Images are read as the network sees them, from paths and from bytes."""

from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import make_images
from PIL import Image

from ccscale.data.image_files import read_images
from ccscale.errors import BadImage


def test_paths_and_bytes(tmp_path):
    folder = make_images(tmp_path, 3, classes=0)
    paths = sorted(folder.iterdir())
    found = read_images([paths[0], str(paths[1]), paths[2].read_bytes()], 16)
    assert (found.shape, found.dtype) == ((3, 3, 16, 16), torch.float32)
    for image, path in zip(found, paths, strict=True):
        with Image.open(path) as opened:
            expected = np.array(opened.resize((16, 16), Image.Resampling.BILINEAR)) / 255
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).mean() < 0.02


def test_white_is_one():
    file = BytesIO()
    Image.new("L", (9, 5), 255).save(file, "PNG")
    assert torch.equal(read_images([file.getvalue()], 8), torch.ones(1, 3, 8, 8))


def test_none():
    assert read_images([], 8).shape == (0, 3, 8, 8)


def test_no_image():
    with pytest.raises(BadImage, match="not an image in a known format"):
        read_images([b"nothing of the kind"], 8)
