"""What is stored of odd images: the bytes as they are, or the pixels that training would see, upright."""

import io

import numpy as np
import pytest
from harness.odd_images import BAD, ODD, chunk, encode, exif, png, smooth, stored
from PIL import Image, ImageCms

from ccscale.data.conversion.preparation import Preparation, prepare
from ccscale.data.images import decode
from ccscale.errors import BadImage

KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def pixels(data):
    return np.asarray(decode.decode(decode.open_image(data), [], None)[0]).astype(int)


def assert_near(found, wanted, levels):
    """Compare brightness; of colours a lossy WebP keeps but a quarter."""
    difference = found - wanted.astype(int)
    assert np.abs(difference @ [0.299, 0.587, 0.114]).mean() < levels
    assert np.abs(difference).mean() < 12


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("name", ODD)
def test_bytes_are_kept_or_become_a_png_of_the_same_pixels(name):
    data = ODD[name][0]
    extension = KEPT.get(decode.open_image(data).image.format)
    found, found_extension = prepare(data, Preparation())
    if extension:
        assert (found, found_extension) == (data, extension)
    else:
        assert found_extension == "png"
        assert opened(found).format == "PNG"
        np.testing.assert_array_equal(pixels(found), pixels(data))


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
def test_another_format_keeps_the_pixels(name, format):
    data = ODD[name][0]
    encoded, extension = prepare(data, Preparation(format=format, quality=97))
    assert extension == format
    difference = np.abs(pixels(encoded) - pixels(data))
    if encoded == data or format == "png":
        assert difference.max() == 0
    assert_near(pixels(encoded), pixels(data), 2)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("format", [None, "jpg"])
def test_the_short_side_of_the_upright_image_is_reduced(name, format):
    data, wanted, _ = ODD[name]
    reduced = pixels(prepare(data, Preparation(resize=15, format=format))[0])
    height, width = wanted.shape[:2]
    scale = min(1, 15 / min(height, width))
    assert reduced.shape == (round(height * scale), round(width * scale), 3)
    plain = Image.fromarray(pixels(data).astype(np.uint8)).resize(
        reduced.shape[1::-1], Image.Resampling.BICUBIC
    )
    # Transparent pixels count for nothing in a mean of colours, and are white in one of what is seen.
    assert_near(reduced, np.asarray(plain), 4)


@pytest.mark.parametrize("name", BAD)
def test_what_training_cannot_read_is_not_stored(name):
    data, reason = BAD[name]
    for preparation in (Preparation(), Preparation(resize=8), Preparation(format="webp")):
        with pytest.raises(BadImage) as caught:
            prepare(data, preparation)
        assert reason.lower() in str(caught.value).lower()
    with pytest.raises(BadImage) as trained:
        pixels(data)
    assert str(trained.value) == str(caught.value)


@pytest.mark.parametrize(
    "preparation", [Preparation(resize=15), Preparation(format="jpg"), Preparation(format="webp")]
)
def test_metadata_are_dropped_with_the_turn_done(preparation):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(stored(smooth(), 6), exif=exif(6), icc_profile=profile, dpi=(300, 300))
    assert opened(data).size == (30, 40)
    image = opened(prepare(data, preparation)[0])
    assert image.size == ((20, 15) if preparation.resize else (40, 30))
    assert not image.getexif()
    assert not {"icc_profile", "exif", "dpi"} & set(image.info)


def test_metadata_stay_with_bytes_that_are_kept():
    data = encode(stored(smooth(), 6), exif=exif(6))
    kept, _ = prepare(data, Preparation(resize=30, format="png"))
    assert kept == data
    np.testing.assert_array_equal(pixels(kept), smooth())


def test_only_a_png_as_large_keeps_16_bits():
    deep = np.linspace(0, 65535, 1200).round().astype(np.uint16).reshape(30, 40)
    pgm = b"P5 40 30 65535\n" + deep.astype(">u2").tobytes()
    image = opened(prepare(pgm, Preparation())[0])
    assert image.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(image), deep)
    assert opened(prepare(pgm, Preparation(resize=15))[0]).mode == "L"
    for format, mode in (("jpg", "L"), ("webp", "RGB")):
        image = opened(prepare(pgm, Preparation(format=format, quality=100))[0])
        assert image.mode == mode
        assert np.abs(np.asarray(image.convert("L")) - deep / 257).max() <= 3


@pytest.mark.parametrize(("format", "length"), [("webp", 16_384), ("jpg", 65_536)])
def test_a_side_may_be_too_long_for_a_format(format, length):
    line = encode(np.zeros((1, length), np.uint8))
    with pytest.raises(BadImage, match=f"{length} x 1 pixels do not fit into {format}"):
        prepare(line, Preparation(format=format))
    assert prepare(line, Preparation()) == (line, "png")


def test_transparency_is_kept_where_the_format_has_it():
    alpha = np.linspace(0, 255, 40).astype(np.uint8)[None].repeat(30, 0)
    data = encode(np.dstack([smooth(), alpha]), "TIFF")
    for format in ("png", "webp"):
        image = opened(prepare(data, Preparation(format=format))[0])
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)
    assert opened(prepare(data, Preparation(format="jpg"))[0]).mode == "RGB"


def test_a_transparent_palette_may_be_reduced():
    indices = np.arange(1200).reshape(30, 40) % 4
    palette = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    data = png(indices, 8, 3, chunk(b"PLTE", palette), chunk(b"tRNS", bytes([0, 128])))
    image = opened(prepare(data, Preparation(resize=15))[0])
    assert (image.mode, image.size) == ("RGBA", (20, 15))


def test_of_a_tiff_that_is_no_photograph_it_is_told_what_keeps_it():
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((5, 8, 8), np.uint16), photometric="minisblack", planarconfig="separate")
    with pytest.raises(BadImage, match="it has 5 channels, and --channels 5 keeps it as it is"):
        prepare(file.getvalue(), Preparation())
