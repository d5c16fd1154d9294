"""Images of channels keep their numbers, and their views are those of the sample alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ccscale.config import Model, Views
from ccscale.config.file import parse_config
from ccscale.data.images.channels import Channels, as_rgb, open_planes, read_values, size_of
from ccscale.data.images.colour import apply_colour
from ccscale.data.images.crops import crop_views
from ccscale.data.images.decode import open_image
from ccscale.data.images.views import draw_views
from ccscale.data.images.whole import whole_image
from ccscale.errors import BadImage, InputError
from ccscale.model.network import ContrastiveClustering

tifffile = pytest.importorskip("tifffile")
LIMITS = Channels("uint16", (0.0,) * 5, (65535.0,) * 5)


def numbers(channels=5, high=65536, dtype=np.uint16, side=(20, 24), seed=0):
    return np.random.default_rng(seed).integers(0, high, (channels, *side)).astype(dtype)


def tiff(values, **how):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **{"photometric": "minisblack", **how})
    return file.getvalue()


def of_pages(values):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in values:
            writer.write(page, photometric="minisblack", contiguous=False, metadata=None)
    return file.getvalue()


FIVE = numbers()
WAYS = {
    "pages": of_pages(FIVE),
    "planes": tiff(FIVE, planarconfig="separate"),
    "pixels": tiff(np.moveaxis(FIVE, 0, -1), planarconfig="contig"),
    "ImageJ": tiff(FIVE, imagej=True, metadata={"axes": "CYX"}),
    "OME": tiff(FIVE, ome=True, metadata={"axes": "CYX"}),
    "big-endian": tiff(FIVE, byteorder=">"),
    "Deflate": tiff(FIVE, compression="zlib", predictor=True),
    "LZW": tiff(FIVE, compression="lzw"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_tiff_keeps_all_numbers_however_its_channels_lie(way):
    found = read_values(WAYS[way])
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.moveaxis(FIVE, 0, -1))
    assert size_of(WAYS[way]) == (24, 20)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_tiff_is_turned_as_its_orientation_says(turn):
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    data = tiff(grey, extratags=[(274, "H", 1, turn, True)])
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(read_values(data)[..., 0], np.asarray(upright))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tiff(FIVE[:4]), "it has 4 channels, not 5"),
        (tiff(FIVE.astype(np.uint8)), "its pixel type is uint8, not uint16"),
        (tiff(numbers(4).astype(np.float32)), "it has 4 channels"),
        (tiff(np.full((5, 4, 4), np.nan, np.float32)), "80 of its values are not finite"),
        (tiff(np.zeros((2, 5, 4, 4), np.uint16), imagej=True, metadata={"axes": "ZCYX"}), "Z 2 x C 5 beside"),
        (WAYS["LZW"][:-900], "."),
        (b"II*\0" + b"\xff" * 40, "."),
    ],
)
def test_what_is_no_such_image_is_bad_and_says_why(data, why):
    with pytest.raises(BadImage, match=why):
        open_planes(data, LIMITS)


def test_signed_and_floating_point_numbers_become_0_to_1_by_what_is_given():
    values = np.array([[[-100.0, 0.0], [300.0, 900.0]]], np.float32)
    (plane,) = open_planes(tiff(values), Channels("float32", (-100.0,), (300.0,))).planes
    np.testing.assert_allclose(np.asarray(plane), [[0, 0.25], [1, 1]], rtol=1e-6)
    assert read_values(tiff(values.astype(np.int16))).dtype == np.int16
    assert read_values(tiff(values.astype(np.float64))).dtype == np.float32


def test_a_whole_image_is_resized_channel_by_channel():
    found = whole_image(WAYS["pages"], 10, channels=LIMITS)
    assert found.shape == (10, 10, 5)
    plane = Image.fromarray(FIVE[3].astype(np.float32) / 65535)
    np.testing.assert_allclose(
        found[..., 3], np.asarray(plane.resize((10, 10), Image.Resampling.BILINEAR)), atol=1e-6
    )


SETTINGS = Views(
    size=16,
    rotate=40,
    translate=0.1,
    jitter=0,
    grey=0,
    intensity=0.7,
    noise=0.7,
    cutout=0.2,
    blur=0.5,
    blur_kernel=5,
)


def test_views_are_those_of_the_sample_whatever_else_is_in_the_batch():
    samples = np.array([7, 3, 12, 900])
    together = draw_views(SETTINGS, 5, 2, samples)
    for i, sample in enumerate(samples):
        alone = draw_views(SETTINGS, 5, 2, np.array([sample]))
        mine = crop_views(WAYS["pages"], SETTINGS, together, i, channels=LIMITS)
        np.testing.assert_array_equal(mine, crop_views(WAYS["planes"], SETTINGS, alone, 0, channels=LIMITS))
    other = draw_views(SETTINGS, 5, 3, samples)
    assert (crop_views(WAYS["pages"], SETTINGS, other, 0, channels=LIMITS) != mine).any()


def test_new_operations_leave_the_draws_of_the_others_as_they_are():
    plain = draw_views(SETTINGS.model_copy(update={"intensity": 0.0, "noise": 0.0}), 0, 0, np.arange(9))
    drawn = draw_views(SETTINGS, 0, 0, np.arange(9))
    assert plain.intensity is None
    for name in ("crop", "flip", "angle", "shift", "zoom", "hole"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(drawn, name))


def test_intensity_changes_each_channel_by_its_own_and_noise_has_its_deviation():
    flat = tiff(np.full((5, 64, 64), 32768, np.uint16))
    off = {"rotate": 0, "translate": 0, "cutout": 0, "blur": 0, "size": 64, "crop_scale": None}
    for kept, left_out, most in (("scale", "shift", 0.5 * 0.2), ("shift", "scale", 0.1)):
        alone = {"intensity": 1.0, "noise": 0.0, f"{kept}_intensity": 0.2 if kept == "scale" else 0.1}
        changed = SETTINGS.model_copy(update=off | alone | {f"{left_out}_intensity": 0.0})
        found = crop_views(flat, changed, draw_views(changed, 0, 0, np.arange(1)), 0, channels=LIMITS)
        means = found.mean(axis=(1, 2))
        assert found.std(axis=(1, 2)).max() < 1e-4
        assert len(np.unique(means.round(4))) == 10  # each channel of each view
        assert (np.abs(means - 0.5) <= most + 1e-4).all()
    noisy = SETTINGS.model_copy(update=off | {"intensity": 0.0, "noise": 1.0, "noise_sigma": (0.03, 0.03)})
    found = crop_views(flat, noisy, draw_views(noisy, 0, 0, np.arange(1)), 0, channels=LIMITS)
    np.testing.assert_allclose(found.std(axis=(1, 2)), 0.03, rtol=0.06)
    assert (found[0] != found[1]).all(axis=-1).mean() > 0.9


def test_what_is_cut_out_of_channels_is_0():
    full = tiff(np.full((5, 64, 64), 65535, np.uint16))
    off = {"rotate": 0, "translate": 0, "zoom": (1.0, 1.0), "blur": 0, "intensity": 0.0, "noise": 0.0}
    holes = SETTINGS.model_copy(update=off | {"cutout": 1.0})
    for view in crop_views(full, holes, draw_views(holes, 0, 0, np.arange(1)), 0, channels=LIMITS):
        assert sorted(np.unique(view)) == [0, 1]


def test_channels_are_blurred_as_colours_are():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    params = draw_views(SETTINGS.model_copy(update={"blur": 1.0}), 0, 0, np.arange(2)).colour.flatten()
    of_bytes = apply_colour(torch.from_numpy(images), params, SETTINGS)
    of_floats = apply_colour(torch.from_numpy(images.astype(np.float32) / 255), params, SETTINGS)
    torch.testing.assert_close(of_floats, of_bytes)


def test_pictures_stretch_each_channel_and_show_those_that_are_chosen():
    dim = np.moveaxis(FIVE // 64, 0, -1)  # all below 1,024 of 65,535
    found = as_rgb(dim, (4, 0))
    assert found[..., 0].max() == 255
    assert not found[..., 2].any()
    assert (as_rgb(dim, (9,)) == as_rgb(dim, (0,))).all()  # grey


def test_a_config_refuses_colours_by_name_where_there_are_none():
    data = {"data": {"shards": "x"}, "model": {"clusters": 3, "in_chans": 5}}
    with pytest.raises(
        InputError, match=r"views\.jitter works on 8-bit RGB only: set views\.jitter=0, views\.grey=0"
    ):
        parse_config(data)
    off = ["views.jitter=0", "views.grey=0"]
    parse_config(data, [*off, "views.noise=0.5", "views.blur=0.5"])
    with pytest.raises(InputError, match=r"stages\.boost\.strong\.rand_augment"):
        parse_config(data, [*off, "stages.boost.epochs=1"])
    with pytest.raises(InputError, match=r"views\.noise works only on images kept as stored"):
        parse_config({"data": {"shards": "x"}, "model": {"clusters": 3}}, ["views.noise=0.5"])
    parse_config(data, [*off, "model.in_chans=3", "model.pixels.scale=range", "views.noise=0.5"])


@pytest.mark.parametrize("channels", [1, 2, 5, 13])
def test_a_network_takes_so_many_channels_and_normalizes_each(channels):
    pixels = {"type": "uint16", "low": [0.0] * channels, "high": [1000.0] * channels}
    pixels |= {"mean": [200.0 + i for i in range(channels)], "std": [50.0] * channels}
    model = Model(backbone="resnet10t", clusters=3, in_chans=channels, pixels=pixels, normalize=True)
    network = ContrastiveClustering(model, 32).eval()
    assert network(torch.rand(2, channels, 32, 32)).assignments.shape == (2, 3)
    np.testing.assert_allclose(network.mean.flatten(), [0.2 + i / 1000 for i in range(channels)], rtol=1e-6)
    np.testing.assert_allclose(network.std.flatten(), 0.05, rtol=1e-6)


def test_weights_of_red_green_and_blue_are_adapted_as_timm_does(tmp_path):
    import timm
    from safetensors.torch import save_file

    from ccscale.model.backbone import build_backbone

    colours = timm.create_model("resnet10t", num_classes=0)
    save_file(colours.state_dict(), tmp_path / "w.safetensors")
    for channels in (1, 4):
        model = Model(
            backbone="resnet10t", clusters=2, in_chans=channels, weights=str(tmp_path / "w.safetensors")
        )
        first = build_backbone(model, 32).conv1[0].weight
        given = colours.conv1[0].weight
        wanted = given.sum(1, keepdim=True) if channels == 1 else given[:, [0, 1, 2, 0]] * 3 / 4
        torch.testing.assert_close(first, wanted)


def dicom(values, **tags):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        SecondaryCaptureImageStorage,
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, tags.pop("meaning", "MONOCHROME2")
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, 0
    file.PatientName = "Somebody"
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = values.astype("<u2").tobytes()
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, enforce_file_format=True)
    return out.getvalue()


def test_dicom_is_what_its_scanner_meant_and_tells_nobody_whose_it_is():
    from ccscale.data.conversion.channel_files import prepare_channels

    stored = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)
    plain = dicom(stored, RescaleSlope=2, RescaleIntercept=-1000)
    np.testing.assert_array_equal(read_values(plain)[..., 0], stored * 2.0 - 1000)
    window = dicom(stored, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=400)
    shown = np.asarray(open_image(window).image)
    hounsfield = stored * 2.0 - 1000
    assert set(shown[hounsfield < -201]) == {0}
    assert set(shown[hounsfield > 201]) == {255}
    inverted = np.asarray(open_image(dicom(stored, meaning="MONOCHROME1")).image)
    assert inverted[0, 0] == 255
    data, ending = prepare_channels(plain, 1, None)
    assert ending == "tif"
    assert b"Somebody" in plain
    assert b"Somebody" not in data
    np.testing.assert_array_equal(read_values(data), read_values(plain))


@pytest.mark.parametrize(
    ("module", "data", "extra"),
    [("tifffile", WAYS["LZW"], "tiff"), ("pydicom", b"\0" * 128 + b"DICM", "dicom")],
)
def test_a_missing_package_is_told_with_the_extra_that_brings_it(monkeypatch, module, data, extra):
    import ccscale.data.images.extras as extras

    monkeypatch.setattr(extras, "found", lambda name: None if name == module else __import__(name))
    with pytest.raises(BadImage, match=rf"pip install 'ccscale\[{extra}\]'"):
        read_values(data)
