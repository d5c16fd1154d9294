"""RandAugment's operations and cutout against torchvision's own, bit for bit."""

import io
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms import InterpolationMode, RandAugment

from ccscale.config import Views
from ccscale.data.images.crops import GREY, crop_views
from ccscale.data.images.rand_augment import OPERATIONS, STEPS, carry_out, magnitudes
from ccscale.data.images.views import draw_views

BILINEAR = InterpolationMode.BILINEAR
FLOWER = Image.fromarray(load_sample_image("flower.jpg")).resize((48, 48), Image.Resampling.BILINEAR)
TABLE = RandAugment()._augmentation_space(STEPS + 1, (48, 48))


def by_torchvision(image: Image.Image, operation: int, steps: int, backwards: bool) -> Image.Image:
    """Let torchvision's RandAugment draw one operation and its direction, and carry it out."""
    with patch.object(
        torch, "randint", side_effect=[torch.tensor([operation]), torch.tensor([int(backwards)])]
    ):
        return RandAugment(1, steps, STEPS + 1, interpolation=BILINEAR)(image)


def test_the_table_is_torchvision_s() -> None:
    assert [operation.name for operation in OPERATIONS] == list(TABLE)
    for number, operation in enumerate(OPERATIONS):
        theirs, has_direction = TABLE[operation.name]
        assert operation.has_direction == has_direction
        ours = np.array(magnitudes(number, 48))
        wanted = theirs.expand(STEPS + 1).double().numpy()
        np.testing.assert_array_equal(ours.round() if operation.name == "Posterize" else ours, wanted)


@pytest.mark.parametrize("number", range(14), ids=[operation.name for operation in OPERATIONS])
@pytest.mark.parametrize("steps", [0, 9, 17, 30])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_operation_is_torchvision_s(number: int, steps: int, backwards: bool) -> None:
    ours, theirs = (way(FLOWER, number, steps, backwards) for way in (carry_out, by_torchvision))
    np.testing.assert_array_equal(ours, theirs)


def test_views_have_the_drawn_operations_after_the_flip_and_the_cutout_last() -> None:
    file = io.BytesIO()
    FLOWER.save(file, "PNG")
    settings = Views(size=48, crop_scale=None, flip=0.5, rand_augment=4, magnitude=12, cutout=0.4)
    params = draw_views(settings, 3, 0, np.arange(12))
    for i in range(12):
        for view, pixels in enumerate(crop_views(file.getvalue(), settings, params, i)):
            wanted = TF.hflip(FLOWER) if params.flip[view, i] else FLOWER
            for number, backwards in zip(
                params.operations[view, i, :4], params.backwards[view, i, :4], strict=True
            ):
                wanted = by_torchvision(wanted, int(number), 12, bool(backwards))
            left, top, right, bottom = params.hole[view, i].tolist()
            wanted = TF.erase(
                TF.pil_to_tensor(wanted), top, left, bottom - top, right - left, torch.tensor(GREY)
            )
            np.testing.assert_array_equal(pixels, wanted.permute(1, 2, 0))
