"""What becomes of odd images wherever they are read: `tests/odd_images.py` has them and what they should be."""

import csv
import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from harness.odd_images import BAD, ODD, encode, exif, smooth, stored
from PIL import Image, ImageFile, features

import ccscale
from ccscale.config import Views
from ccscale.data.conversion.preparation import Preparation, prepare
from ccscale.data.images import decode, extras, formats
from ccscale.data.images.crops import crop_views
from ccscale.data.images.views import draw_views
from ccscale.data.images.whole import whole_image
from ccscale.data.shards.adopt import adopt
from ccscale.data.shards.tar_writer import TarWriter
from ccscale.draw.tiles import square
from ccscale.errors import BadImage

PNG = encode(smooth())


def pixels(data):
    return np.asarray(decode.decode(decode.open_image(data), [], None)[0])


@pytest.mark.parametrize("name", ODD)
def test_odd_images_become_upright_rgb(name):
    data, wanted, tolerance = ODD[name]
    encoded = decode.open_image(data)
    assert (encoded.height, encoded.width) == wanted.shape[:2]  # known before the pixels are
    found = np.asarray(decode.decode(encoded, [], None)[0])
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= tolerance


@pytest.mark.parametrize("name", ODD)
def test_all_readers_see_the_same_pixels(name, tmp_path):
    data = ODD[name][0]
    plain = encode(pixels(data))
    settings = Views(size=24, scaled_decode=False)
    params = draw_views(settings, 0, 0, np.arange(4))
    for i in range(4):
        np.testing.assert_array_equal(
            crop_views(data, settings, params, i), crop_views(plain, settings, params, i)
        )
    np.testing.assert_array_equal(whole_image(data, 20), whole_image(plain, 20))
    (tmp_path / "image").write_bytes(data)
    read = ccscale.read_images([tmp_path / "image", plain], 20)
    assert read[0].equal(read[1])


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused_with_a_reason(name):
    data, reason = BAD[name]
    settings = Views(size=32)
    params = draw_views(settings, 0, 0, np.arange(1))
    for read in (
        lambda: crop_views(data, settings, params, 0),
        lambda: whole_image(data, 32),
        lambda: ccscale.read_images([data], 32),
    ):
        with pytest.raises(BadImage) as caught:
            read()
        assert reason.lower() in str(caught.value).lower()
        assert len(str(caught.value).splitlines()) == 1


def test_read_images_names_the_bad_one(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"bad\.jpg cannot be decoded: it is not an image in a known format"):
        ccscale.read_images([PNG, tmp_path / "bad.jpg"], 8)
    with pytest.raises(BadImage, match="image 1 cannot be decoded: it has no bytes"):
        ccscale.read_images([PNG, b""], 8)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_jpeg_is_decoded_at_a_scale_too(orientation):
    # Odd sides, so that the reduced image reaches beyond the original's edge, at whichever side that comes to lie.
    slope = np.add.outer(np.linspace(0, 100, 375), np.linspace(0, 155, 501)).round().astype(np.uint8)
    turned = encode(stored(slope, orientation), "JPEG", quality=100, exif=exif(orientation))
    box = (250.0, 90.0, 450.0, 290.0)
    image, (scaled,) = decode.decode(decode.open_image(turned), [box], 24)
    assert image.size == (63, 47)  # an eighth, rounded up
    assert scaled[2] - scaled[0] == scaled[3] - scaled[1] == 25
    found = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR, box=scaled))[..., 0].astype(float)
    wanted = np.asarray(Image.fromarray(slope).resize((24, 24), Image.Resampling.BILINEAR, box=box))
    assert (
        np.abs((found - wanted)[1:-1, 1:-1].mean((0, 1))) < 0.3
    )  # half a pixel's shift is a level of 1.2 and more
    assert np.abs(found - wanted).max() <= 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"compression": "packbits"}),
        ("PPM", {}),
        pytest.param("AVIF", {}, marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF here")),
    ],
)
@pytest.mark.parametrize("library_setting", [False, True])
def test_a_cut_off_file_is_whole_or_bad(kind, options, library_setting, monkeypatch, capfd):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", library_setting)
    decode.silence_pillow()
    data = encode(smooth(90, 70), kind, **options)
    whole = pixels(data)
    for length in {*range(0, len(data), len(data) // 60), *range(len(data) - 20, len(data))}:
        try:
            found = pixels(data[:length])
        except BadImage:
            continue
        np.testing.assert_array_equal(found, whole)  # only what follows the pixels is missing
    assert ImageFile.LOAD_TRUNCATED_IMAGES is library_setting
    assert capfd.readouterr().err == ""


def test_the_size_is_checked_before_any_pixel_is_decoded(monkeypatch):
    def load(image):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for data in (
        PNG,
        encode(smooth(), "JPEG"),
        encode(smooth(), "TIFF"),
        encode(smooth(), "PNG", exif=exif(6)),
    ):
        with pytest.raises(BadImage, match="it claims 40 x 30 pixels, above the limit of 1,199"):
            decode.open_image(data, most_pixels=1199)


@pytest.mark.parametrize("limit", [None, 1, 10**12])
def test_the_limit_does_not_depend_on_pillow_s(limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for name in ("plain", "EXIF 6 WebP", "animated GIF", "animated WEBP", "16 bit TIFF", "EXIF 6 JPEG"):
        data, wanted, tolerance = ODD[name]
        assert np.abs(pixels(data).astype(int) - wanted).max() <= tolerance
    for name in ("vast PNG", "vast JPEG", "vast GIF", "vast TIFF"):
        with pytest.raises(BadImage, match="pixels, above the limit of 134,217,728"):
            pixels(BAD[name][0])
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("limit", [None, 1, 10**12])
def test_what_is_cut_from_an_image_does_not_depend_on_pillow_s_limit(limit, monkeypatch):
    data = encode(smooth(), "JPEG")
    settings = Views(size=24)
    params = draw_views(settings, 0, 0, np.arange(1))

    def seen():
        found = [crop_views(data, settings, params, 0), whole_image(data, 20), square(data, 16)]
        found.append(pixels(prepare(data, Preparation(resize=8))[0]))
        return found

    wanted = seen()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found, expected in zip(seen(), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert limit == Image.MAX_IMAGE_PIXELS


HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEIC, r"it is HEIC, which needs another package: run `pip install 'ccscale\[heif\]'`"),
        (b"\xff\x0a" + bytes(100), r"it is JPEG XL, which needs another package: .*'ccscale\[jxl\]'`"),
        (HEIC.replace(b"heic", b"avif"), r"it is AVIF, .*'pillow>=11\.3'`"),
    ],
)
def test_a_format_that_needs_a_package_names_it(data, reason, monkeypatch):
    monkeypatch.setattr(extras, "found", lambda module: None)
    monkeypatch.setattr(formats.features, "check", lambda feature: False)
    with pytest.raises(BadImage, match=reason):
        decode.open_image(data)


@pytest.mark.parametrize("o", [1, 6])
def test_heic_is_read_by_its_extra(o):
    pytest.importorskip("pillow_heif").register_heif_opener()
    opened = Image.open(io.BytesIO(encode(stored(smooth(160, 120), o), "JPEG", quality=95, exif=exif(o))))
    data = encode(opened, "HEIF", quality=95)
    assert b"irot" in data or o == 1
    assert np.abs(pixels(data).astype(int) - smooth(160, 120)).mean() < 6
    for length in range(0, len(data), len(data) // 20):
        with pytest.raises(BadImage):
            pixels(data[:length])


@pytest.mark.parametrize("options", [{}, {"use_container": True}, {"lossless": True}])
def test_jpeg_xl_is_read_by_its_extra(options):
    pytest.importorskip("pillow_jxl")
    data = encode(smooth(), "JXL", **options)
    assert np.abs(pixels(data).astype(int) - smooth()).mean() < 6
    for length in range(0, len(data), len(data) // 20):
        with pytest.raises(BadImage):
            pixels(data[:length])
    for size in ((8, 8), (800, 600), (123, 77), (7000, 3), (160, 90), (640, 512), (600, 300)):
        assert formats.claimed_size(encode(Image.new("RGB", size), "JXL", **options)) == size


def test_metadata_are_parsed_only_where_they_may_turn_the_image(monkeypatch):
    parsed = []
    load = Image.Exif.load
    monkeypatch.setattr(Image.Exif, "load", lambda exif, data: parsed.append(data) or load(exif, data))
    tags = Image.Exif()
    tags[271] = "a camera"
    for kind in ("JPEG", "PNG", "WEBP"):
        decode.open_image(encode(smooth(), kind))
    for kind in ("PNG", "WEBP"):  # (Pillow looks for a JPEG's resolution in its EXIF)
        decode.open_image(encode(smooth(), kind, exif=tags))
    assert parsed == []
    decode.open_image(encode(smooth(), exif=exif(3)))
    assert len(parsed) == 1


def test_a_lack_of_memory_is_no_bad_image(monkeypatch):
    def load(image):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError):
        pixels(encode(smooth(), "JPEG"))


BOMBS = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from harness.odd_images import BAD
from ccscale.data.images.whole import whole_image
from ccscale.errors import BadImage
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, (data, _) in BAD.items():
    try:
        whole_image(data, 32)
    except BadImage:
        pass
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_bad_images_take_little_memory():
    tests = str(Path(__file__).parents[2])
    result = subprocess.run([sys.executable, "-c", BOMBS, tests], capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())  # KiB
    assert (
        after - before < 150 * 1024
    )  # text chunks of 64 MiB are Pillow's limit; the bombs hold 200 MiB and more


WORKER = """
import sys
from ccscale.data.shards.manifest import Manifest
from ccscale.data.whole_images import whole_batches
if __name__ == "__main__":
    manifest = Manifest.load(sys.argv[1])
    for batch in whole_batches(manifest, ["train"], 8, 16, workers=1):
        print(*batch.reasons, sep="\\n")
"""


@pytest.mark.slow
def test_workers_are_quiet_about_odd_images(tmp_path):
    with open(tmp_path / "train-000000.tar", "wb") as file:
        tar = TarWriter(file)
        for number, (data, *_) in enumerate([*ODD.values(), *BAD.values()]):
            tar.add(f"{number:03d}.jpg", data)
        tar.finish()
    adopt(tmp_path, workers=1, progress=False)
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    result = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert len([line for line in result.stdout.splitlines() if line]) == len(BAD)


@pytest.mark.slow
def test_conversion_is_quiet_about_odd_images(tmp_path):
    (tmp_path / "in").mkdir()
    for number, (data, *_) in enumerate([*ODD.values(), *BAD.values()]):
        (tmp_path / f"in/{number:03d}.png").write_bytes(data)
    command = [sys.executable, "-m", "ccscale", "shards", "make", "folder", tmp_path / "in", tmp_path / "out"]
    result = subprocess.run(
        [*command, "--workers", "2", "--shard-samples", "60"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    for speaker in ("PIL", "Warning", "TIFF", "JPEGLib"):
        assert speaker not in result.stderr
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rejected = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    assert sorted(rejected) == [f"{len(ODD) + number:03d}" for number in range(len(BAD))]
    for key, (_, reason) in zip(sorted(rejected), BAD.values(), strict=True):
        assert reason.lower() in rejected[key].lower()
