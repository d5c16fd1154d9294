"""The geometry of views against torchvision's on PIL images.

``python tests/data/images/test_crops.py`` prints how far views of a JPEG decoded at a DCT scale are from those of
the whole JPEG.
"""

import io

import numpy as np
import pytest
import torchvision.transforms.functional as TF
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import InterpolationMode

from ccscale.config import Views
from ccscale.data.images.crops import crop_views
from ccscale.data.images.views import crop_box, draw_views
from ccscale.data.images.whole import whole_image

BILINEAR = InterpolationMode.BILINEAR


def encode(image, kind="PNG", **options):
    """Return the image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(number):
    """A photograph of 500x375 with a landscape (0) or a flower (1), and its JPEG as large as ImageNet's."""
    image = Image.fromarray(load_sample_images().images[number])
    image = image.resize((500, 375), Image.Resampling.BICUBIC, box=(20, 10, 588, 427))
    return encode(image, "JPEG", quality=96, subsampling=0)


@pytest.fixture(scope="module", params=[0, 1], ids=["landscape", "flower"])
def jpeg(request):
    return photograph(request.param)


def draw(settings, count=12):
    return draw_views(settings, 0, 0, np.arange(count))


def torchvision_crop(image, settings, u):
    left, top, width, height = crop_box(u, *image.size, settings.crop_scale, settings.crop_ratio)
    return TF.resized_crop(image, top, left, height, width, [settings.size] * 2, BILINEAR)


@pytest.mark.parametrize("size", [32, 224])
def test_crops_are_torchvision_s(jpeg, size):
    settings = Views(size=size, scaled_decode=False, flip=0)
    params = draw(settings)
    image = Image.open(io.BytesIO(jpeg))
    for i in range(12):
        views = crop_views(jpeg, settings, params, i)
        for view in range(2):
            wanted = np.asarray(torchvision_crop(image, settings, params.crop[view, i]))
            np.testing.assert_array_equal(views[view], wanted)


def test_without_a_crop_the_whole_image_is_resized(jpeg):
    settings = Views(size=64, scaled_decode=False, crop_scale=None, flip=0)
    wanted = np.asarray(TF.resize(Image.open(io.BytesIO(jpeg)), [64, 64], BILINEAR))
    views = crop_views(jpeg, settings, draw(settings), 0)
    np.testing.assert_array_equal(views, np.stack([wanted, wanted]))
    np.testing.assert_array_equal(whole_image(jpeg, 64, scaled_decode=False), wanted)


@pytest.mark.parametrize("raw", [1, 2])
def test_a_raw_view_is_the_whole_image_whatever_else_is_on(jpeg, raw):
    on = Views(size=64, scaled_decode=False, flip=1, rotate=90, translate=0.3, zoom=(0.5, 0.6))
    settings = on.model_copy(update={"raw": raw})
    views = crop_views(jpeg, settings, draw(settings), 0)
    np.testing.assert_array_equal(views[1], whole_image(jpeg, 64, scaled_decode=False))
    assert np.array_equal(views[0], views[1]) == (raw == 2)
    if raw == 1:
        np.testing.assert_array_equal(views[0], crop_views(jpeg, on, draw(on), 0)[0])


def test_flip_mirrors_left_to_right(jpeg):
    settings = Views(size=48, flip=0.5)
    params = draw(settings)
    seen = set()
    for i in range(12):
        flipped = crop_views(jpeg, settings, params, i)
        straight = crop_views(jpeg, settings, draw(Views(size=48, flip=0)), i)
        for view in range(2):
            seen.add(bool(params.flip[view, i]))
            wanted = straight[view, :, ::-1] if params.flip[view, i] else straight[view]
            np.testing.assert_array_equal(flipped[view], wanted)
    assert seen == {False, True}


@pytest.mark.parametrize(
    "affine",
    [
        {"rotate": 40},
        {"translate": 0.2},
        {"zoom": (0.6, 1.5)},
        {"rotate": 180, "translate": 0.3, "zoom": (0.5, 2)},
    ],
)
def test_affine_is_torchvision_s(jpeg, affine):
    settings = Views(size=65, flip=0, **affine)
    plain = Views(size=65, flip=0)
    params = draw(settings)
    for i in range(6):
        views, crops = crop_views(jpeg, settings, params, i), crop_views(jpeg, plain, params, i)
        for view in range(2):
            wanted = TF.affine(
                Image.fromarray(crops[view]),
                float(params.angle[view, i]),
                params.shift[view, i].tolist(),
                float(params.zoom[view, i]),
                [0.0, 0.0],
                BILINEAR,
                0,
            )
            assert np.abs(views[view].astype(int) - crops[view]).mean() > 1
            # The matrices differ in the last bit: a pixel may round the other way.
            difference = np.abs(views[view].astype(int) - np.asarray(wanted))
            assert difference.max() <= 1
            assert difference.mean() < 1e-3


def test_flip_follows_the_affine(jpeg):
    settings = Views(size=40, flip=1, rotate=30)
    params = draw(settings)
    unflipped = crop_views(jpeg, settings, draw(Views(size=40, flip=0, rotate=30)), 0)
    np.testing.assert_array_equal(crop_views(jpeg, settings, params, 0), unflipped[:, :, ::-1])


def scaled_decode_difference(size, count=12):
    """Mean absolute difference of each view (2 x count x 2 photographs) in grey levels of 255."""
    scaled, full = Views(size=size), Views(size=size, scaled_decode=False)
    params = draw(full, count)
    differences = [
        np.abs(crop_views(data, scaled, params, i).astype(float) - crop_views(data, full, params, i)).mean(
            (1, 2, 3)
        )
        for data in map(photograph, range(2))
        for i in range(count)
    ]
    return np.concatenate(differences)


@pytest.mark.parametrize("size", [32, 96])
def test_scaled_decoding_changes_little(size):
    differences = scaled_decode_difference(size)
    assert (differences > 0).mean() > 0.4  # it does happen
    assert differences.mean() < 1.5
    assert differences.max() < 5  # the finest texture of the landscape


def test_scaled_decoding_places_crops_where_they_belong():
    # Odd sides, so that the reduced image reaches beyond the original's edge: a smooth slope must stay the same.
    slope = np.add.outer(np.linspace(0, 100, 375), np.linspace(0, 155, 501)).round().astype(np.uint8)
    data = encode(Image.fromarray(slope), "JPEG", quality=100)
    settings = Views(size=24, flip=0)
    params = draw(settings)
    for i in range(12):
        views = crop_views(data, settings, params, i).astype(float)
        full = crop_views(data, settings.model_copy(update={"scaled_decode": False}), params, i)
        assert np.abs((views - full)[:, 1:-1, 1:-1].mean((1, 2, 3))).max() < 0.3
    assert np.abs(whole_image(data, 24) - whole_image(data, 24, scaled_decode=False).astype(float)).max() <= 2


@pytest.mark.parametrize(
    ("size", "expected"), [(376, 1), (188, 1), (187, 2), (94, 2), (93, 4), (46, 8), (20, 8)]
)
def test_a_jpeg_is_reduced_as_far_as_the_view_allows(jpeg, size, expected, monkeypatch):
    decoded = []
    resize = Image.Image.resize

    def spy(image, *args, **kwargs):
        decoded.append(image.size)
        return resize(image, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", spy)
    whole_image(jpeg, size)
    settings = Views(size=size, crop_scale=None)
    crop_views(jpeg, settings, draw(settings), 0)
    assert decoded == [(-(-500 // expected), -(-375 // expected))] * 2  # both views are the same part


def test_no_crop_has_fewer_pixels_than_the_view(jpeg, monkeypatch):
    sides, scales = [], []
    crop, resize = Image.Image.crop, Image.Image.resize

    def spy_crop(image, box):
        scales.append(round(500 / image.width))
        return crop(image, box)

    def spy_resize(image, size, resample, box):
        sides.append(min(box[2] - box[0], box[3] - box[1]))
        return resize(image, size, resample, box)

    monkeypatch.setattr(Image.Image, "crop", spy_crop)
    monkeypatch.setattr(Image.Image, "resize", spy_resize)
    settings = Views(size=60)
    params = draw(settings, 30)
    for i in range(30):
        crop_views(jpeg, settings, params, i)
    scale, side = np.reshape(scales, (30, 2)), np.reshape(sides, (30, 2)).min(axis=1)
    assert set(scale.ravel()) == {1, 2, 4}
    np.testing.assert_array_equal(scale[:, 0], scale[:, 1])  # decoded once, for both views
    assert side[scale[:, 0] > 1].min() >= 60
    assert side.max() < 120  # no larger scale would have served


def test_views_are_written_where_they_are_wanted(jpeg):
    settings = Views(size=32)
    params = draw(settings)
    batch = np.zeros((2, 3, 32, 32, 3), dtype=np.uint8)
    crop_views(jpeg, settings, params, 4, out=batch[:, 1])
    np.testing.assert_array_equal(batch[:, 1], crop_views(jpeg, settings, params, 4))
    assert not batch[:, [0, 2]].any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_images(kind, size):
    data = encode(Image.new("RGB", size, (200, 100, 50)), kind)
    settings = Views(size=16)
    params = draw(settings, 20)
    for i in range(20):
        views = crop_views(data, settings, params, i)
        assert np.abs(views.astype(int) - (200, 100, 50)).max() <= 8
    assert whole_image(data, 16).shape == (16, 16, 3)


def test_a_grey_jpeg_is_reduced_too():
    data = encode(Image.open(io.BytesIO(photograph(0))).convert("L"), "JPEG", quality=95)
    view = whole_image(data, 40).astype(float)
    np.testing.assert_array_equal(view[..., 0], view[..., 2])
    assert 0 < np.abs(view - whole_image(data, 40, scaled_decode=False)).mean() < 3


def test_a_fault_of_the_program_is_no_bad_image(jpeg):
    settings = Views(size=32)
    with pytest.raises(IndexError):
        crop_views(jpeg, settings, draw(settings, 3), 3)


if __name__ == "__main__":
    for side in (32, 64, 96, 150, 224):
        found = scaled_decode_difference(side, 100)
        print(
            f"{side:4d} px: mean {found.mean():.2f}, largest {found.max():.2f} of 255; "
            f"{(found > 0).mean():.0%} of the views were cut from a reduced image"
        )
