"""Colour and blur against torchvision's own functions, and a view's independence of its batch."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF

from ccscale.config import Views
from ccscale.data.images.colour import apply_colour, to_float
from ccscale.data.images.views import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    NEUTRAL,
    SATURATION,
    ColourParameters,
    draw_views,
)

ADJUST = {
    BRIGHTNESS: TF.adjust_brightness,
    CONTRAST: TF.adjust_contrast,
    SATURATION: TF.adjust_saturation,
    HUE: TF.adjust_hue,
}
FACTORS = {
    BRIGHTNESS: [0.0, 0.3, 0.999, 1.7],
    CONTRAST: [0.0, 0.3, 0.999, 1.7],
    SATURATION: [0.0, 0.3, 0.999, 1.7],
    HUE: [-0.5, -0.13, 0.01, 0.5],
}
ALL_ON = Views(size=33, strength=1.0, blur=0.5, blur_kernel=9, grey=0.2)
OFF = Views(size=33, jitter=0, grey=0, blur=0, blur_kernel=9)


def make_images(count, size=33, seed=0):
    """Random images that hold what is special to some operation: greys, pure and equal colours, black, white."""
    images = torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(seed))
    images[:, 0] = images[:, 0, :, :1]  # greys
    images[:, 1, :, 0] = images[:, 1, :, 1]  # red and green the same
    images[:, 2] = (images[:, 2] > 127) * 255  # pure colours
    images[:, 3, :, 2] = images[:, 3, :, 1]
    images[:, 4] //= 64
    return images.to(torch.uint8)


def make_colour(count, **changes):
    """Parameters that leave images as they are, but for `changes`."""
    parts = {
        "order": np.broadcast_to(np.arange(4, dtype=np.int8), (count, 4)).copy(),
        "factors": np.tile(NEUTRAL, (count, 1)),
        "grey": np.zeros(count, dtype=bool),
        "sigma": np.zeros(count, dtype=np.float32),
    }
    return ColourParameters(**(parts | changes))


def torchvision_chain(image, colour, i, kernel):
    """What torchvision makes of a float image (3, S, S) with the parameters of view `i`."""
    for operation in colour.order[i].tolist():
        factor = float(colour.factors[i, operation])
        if factor != NEUTRAL[operation]:
            image = ADJUST[operation](image, factor)
    if colour.grey[i]:
        image = TF.rgb_to_grayscale(image, 3)
    if colour.sigma[i]:
        image = TF.gaussian_blur(image, [kernel, kernel], [float(colour.sigma[i])] * 2)
    return image


def drawn(settings, count):
    return draw_views(settings, 0, 0, np.arange(count)).colour.flatten()


def single(operation, factors):
    values = np.tile(NEUTRAL, (len(factors), 1))
    values[:, operation] = factors
    return make_colour(len(factors), factors=values)


@pytest.mark.parametrize("operation", ADJUST)
def test_each_operation_is_torchvision_s(operation):
    factors = FACTORS[operation]
    images = make_images(len(factors))
    result = apply_colour(images, single(operation, factors), OFF)
    for image, ours, factor in zip(images, result, factors, strict=True):
        wanted = ADJUST[operation](to_float(image[None])[0], factor)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-6)
        assert (ours - to_float(image[None])[0]).abs().max() > 1e-4


@pytest.mark.parametrize("operation", ADJUST)
def test_each_operation_is_that_on_whole_numbers_but_for_the_rounding(operation):
    factors = FACTORS[operation]
    images = make_images(len(factors))
    result = apply_colour(images, single(operation, factors), OFF)
    for image, ours, factor in zip(images, result, factors, strict=True):
        wanted = ADJUST[operation](image.permute(2, 0, 1), factor)
        # torchvision cuts off below the whole number, and before that the grey that it blends with.
        bound = 1 + (abs(1 - factor) if operation in (CONTRAST, SATURATION) else 0)
        assert (ours * 255 - wanted).abs().max() <= bound + 1e-3


def test_grey_is_torchvision_s():
    images = make_images(3)
    result = apply_colour(images, make_colour(3, grey=np.array([True, False, True])), OFF)
    plain = to_float(images)
    torch.testing.assert_close(result[::2], TF.rgb_to_grayscale(plain[::2], 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(result[1], plain[1], rtol=0, atol=0)


@pytest.mark.parametrize(("size", "kernel"), [(33, 9), (32, 3), (12, 23), (64, 23), (5, 1)])
def test_blur_is_torchvision_s(size, kernel):
    sigma = np.array([0.1, 0.7, 0, 2.0, 50], dtype=np.float32)  # the last: all taps count
    images = make_images(5, size)
    settings = OFF.model_copy(update={"blur_kernel": kernel})
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-14)):
        plain = to_float(images, dtype)
        result = apply_colour(images, make_colour(5, sigma=sigma), settings, dtype)
        for i in range(5):
            wanted = TF.gaussian_blur(plain[i], [kernel] * 2, [float(sigma[i])] * 2) if sigma[i] else plain[i]
            torch.testing.assert_close(result[i], wanted, rtol=0, atol=tolerance)


def test_the_whole_chain_is_torchvision_s():
    images, colour = make_images(120), drawn(ALL_ON, 60)
    assert len(np.unique(colour.order, axis=0)) == 24
    result = apply_colour(images, colour, ALL_ON)
    plain = to_float(images)
    wanted = torch.stack([torchvision_chain(plain[i], colour, i, 9) for i in range(120)])
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-5)
    assert result.min() >= 0
    assert result.max() <= 1


def test_the_whole_chain_in_float64():
    images, colour = make_images(24), drawn(ALL_ON, 12)
    # torchvision's hue converts to float32 on the way: the chain is compared without it, and the hue above.
    colour.factors[:, HUE] = 0
    result = apply_colour(images, colour, ALL_ON, torch.float64)
    plain = to_float(images, torch.float64)
    wanted = torch.stack([torchvision_chain(plain[i], colour, i, 9) for i in range(24)])
    assert result.dtype == wanted.dtype
    torch.testing.assert_close(result, wanted, rtol=0, atol=5e-9)


def test_the_order_matters():
    images = make_images(2)
    order = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], dtype=np.int8)
    images[1] = images[0]
    factors = np.tile(np.float32([1.6, 0.4, 1.6, 0.2]), (2, 1))
    there, back = apply_colour(images, make_colour(2, order=order, factors=factors), OFF)
    assert (there - back).abs().max() > 0.1


@pytest.mark.parametrize(("size", "count"), [(33, 64), (32, 64), (225, 8)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_view_does_not_depend_on_its_batch(size, count, threads):
    """Bit for bit: alone, among seven, in the whole; at sizes that leave vectorised loops a rest."""
    settings = ALL_ON.model_copy(update={"size": size})
    images, colour = make_images(count, size), drawn(settings, count // 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = apply_colour(images, colour, settings)
        torch.set_num_threads(threads)
        for width in (1, 7, count):
            for start in range(0, count, width):
                part = slice(start, start + width)
                assert torch.equal(apply_colour(images[part], colour[part], settings), whole[part])
    finally:
        torch.set_num_threads(before)
    shuffled = np.random.default_rng(0).permutation(count)
    other = ColourParameters(
        *(getattr(colour, name)[shuffled] for name in ("order", "factors", "grey", "sigma"))
    )
    assert torch.equal(apply_colour(images[shuffled], other, settings), whole[shuffled])


def test_the_mean_of_contrast_is_exact_in_any_order():
    # The sum of float32 greys depends on the order; that of the same pixels elsewhere in the image must not.
    images = make_images(1, 64)
    mixed = images.view(1, -1, 3)[:, torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))]
    colour = single(CONTRAST, [0.0])  # the mean alone
    results = [apply_colour(x.view(1, 64, 64, 3), colour, OFF) for x in (images, mixed)]
    assert torch.equal(*results)
    wanted = TF.rgb_to_grayscale(to_float(images, torch.float64)).mean()
    assert (results[0] - wanted).abs().max() < 1e-7


def test_what_is_switched_off_leaves_the_images_as_they_are():
    images = make_images(4)
    result = apply_colour(images, drawn(OFF, 2), OFF)
    assert torch.equal(result, images.permute(0, 3, 1, 2) / 255)
    assert result.is_contiguous()
    assert torch.equal(result, to_float(images))


def test_inputs_are_left_as_they_are():
    images, colour = make_images(64), drawn(ALL_ON, 32)
    copy, factors = images.clone(), colour.factors.copy()
    first = apply_colour(images, colour, ALL_ON)
    assert torch.equal(first, apply_colour(images, colour, ALL_ON))
    assert torch.equal(images, copy)
    np.testing.assert_array_equal(colour.factors, factors)


def test_an_empty_batch():
    result = apply_colour(make_images(4)[:0], drawn(ALL_ON, 2)[:0], ALL_ON)
    assert result.shape == (0, 3, 33, 33)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 33, 33, 3, dtype=torch.float64), "float64"),
        (torch.zeros(4, 3, 33, 33, dtype=torch.uint8), r"\(4, 3, 33, 33\)"),
        (torch.zeros(2, 2, 33, 33, 3, dtype=torch.uint8), "uint8"),
        (torch.zeros(3, 33, 33, 3, dtype=torch.uint8), "4 views and 3 images"),
    ],
)
def test_wrong_inputs_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        apply_colour(images, make_colour(4), OFF)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_agrees_and_is_never_waited_for():
    images, colour = make_images(64), drawn(ALL_ON, 32)
    on_device = images.cuda()
    apply_colour(on_device, colour, ALL_ON)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = apply_colour(on_device, colour, ALL_ON)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(result.cpu(), apply_colour(images, colour, ALL_ON), rtol=0, atol=1e-5)
