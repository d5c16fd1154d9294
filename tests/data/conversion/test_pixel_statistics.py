"""What is measured of images of channels is exact, whoever measures it, and stands in the manifest."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from ccscale.config import Model, Pixels
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.pixels import facts_of, follow_pixels
from ccscale.data.sources.folders import folder
from ccscale.errors import InputError

tifffile = pytest.importorskip("tifffile")


def images(kind, count=12, channels=4):
    rng = np.random.default_rng(0)
    many = rng.normal(3, 5, (count, channels, 9, 7)) * np.array([1, 10, 1e-3, 100])[:channels, None, None]
    if kind == "float32":
        return many.astype(np.float32)
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max)
    return (many * 20).clip(low, high).astype(kind)


def written(tmp_path, values, out="shards", workers=1, **options):
    place = tmp_path / "images"
    place.mkdir(exist_ok=True)
    for i, value in enumerate(values):
        tifffile.imwrite(place / f"{i:03d}.tif", value, photometric="minisblack")
    source = folder(place, split="train", labels=False)
    made = make_shards(source, tmp_path / out, workers=workers, progress=False, shard_samples=5, **options)
    return source, made


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_mean_deviation_and_percentiles_are_those_of_all_pixels(tmp_path, kind):
    values = images(kind)
    _, made = written(tmp_path, values, channels=4)
    found = Manifest.load(tmp_path / "shards").pixels
    assert found == made.pixels
    assert (found.channels, found.type, found.shown) == (4, kind, (0, 1, 2))
    flat = values.astype(np.float64).swapaxes(0, 1).reshape(4, -1)
    np.testing.assert_allclose(found.mean, flat.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, flat.std(axis=1), rtol=1e-9)
    for name, numbers in found.percentiles.items():
        wanted = np.percentile(flat, float(name), axis=1, method="inverted_cdf")
        np.testing.assert_array_equal(numbers, wanted, err_msg=name)


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(tmp_path):
    values = images("float32")
    written(tmp_path, values, channels=4)
    written(tmp_path, values, "others", workers=3, channels=4)
    for name in ("dataset.json", "train-000000.tar", "train-000002.index.parquet"):
        assert (tmp_path / "shards" / name).read_bytes() == (tmp_path / "others" / name).read_bytes()


def test_shards_keep_the_files_as_they_are_and_reject_other_channels(tmp_path):
    values = images("uint16")
    place = tmp_path / "images"
    place.mkdir()
    tifffile.imwrite(place / "z-other.tif", values[0, :3], photometric="minisblack")
    _, made = written(tmp_path, values, channels=4)
    assert sum(shard.nsamples for shard in made.shards) == 12
    assert "it has 3 channels, not 4" in (tmp_path / "shards/rejected.csv").read_text()
    tar = b"".join((tmp_path / "shards" / shard.url).read_bytes() for shard in made.shards)
    assert all((place / f"{i:03d}.tif").read_bytes() in tar for i in range(12))
    assert json.loads((tmp_path / "shards/dataset.json").read_text())["ccscale"]["version"] == 2


def test_reduced_images_keep_their_type(tmp_path):
    _, made = written(tmp_path, images("uint16"), channels=4, resize=4)
    assert made.pixels.type == "uint16"
    assert made.pixels.percentiles["100"][3] <= images("uint16").max()


def test_images_of_several_types_are_refused(tmp_path):
    values = list(images("uint16"))
    values[3] = values[3].astype(np.float32)
    with pytest.raises(InputError, match="1 of float32 and 11 of uint16"):
        written(tmp_path, values, channels=4)


def test_a_config_follows_what_was_measured_and_may_say_otherwise(tmp_path):
    _, made = written(tmp_path, images("int16"), channels=4)
    model = Model(clusters=2, in_chans=4)
    found = follow_pixels(model, made).pixels
    assert (found.low, found.high, found.mean) == ((-32768.0,) * 4, (32767.0,) * 4, made.pixels.mean)
    ends = Model(
        clusters=2, in_chans=4, pixels={"scale": "percentiles", "percentiles": [1, 99], "high": [9e3] * 4}
    )
    found = follow_pixels(ends, made).pixels
    assert (found.low, found.high) == (made.pixels.percentiles["1"], (9e3,) * 4)
    assert follow_pixels(follow_pixels(model, made), made) == follow_pixels(model, made)
    with pytest.raises(
        InputError, match=r"4 channels of int16, and model wants RGB of 8 bits: set model\.in_chans=4"
    ):
        follow_pixels(Model(clusters=2), made)
    with pytest.raises(InputError, match="in_chans is 5"):
        follow_pixels(Model(clusters=2, in_chans=5), made)


@pytest.mark.parametrize(("kind", "scale"), [("uint16", "percentiles"), ("float32", "range")])
def test_a_network_s_settings_are_enough_where_the_measured_figures_are_gone(tmp_path, kind, scale):
    """As of a feature store, which says by its backbone what its images were."""
    _, made = written(tmp_path, images(kind), channels=4)
    settings = follow_pixels(Model(clusters=2, in_chans=4, pixels=Pixels(scale=scale)), made)
    assert follow_pixels(settings, replace(made, pixels=facts_of(settings))) == settings


def test_shards_of_rgb_are_what_they_were(tmp_path):
    from PIL import Image

    place = tmp_path / "images"
    place.mkdir()
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    (place / "a.png").write_bytes(file.getvalue())
    made = make_shards(
        folder(place, split="train", labels=False), tmp_path / "out", workers=1, progress=False
    )
    content = json.loads((tmp_path / "out/dataset.json").read_text())["ccscale"]
    assert made.pixels is None
    assert content["version"] == 1
    assert "pixels" not in content
    assert "channels" not in content["made_by"]["options"]
    with pytest.raises(InputError, match="nothing was measured"):
        follow_pixels(Model(clusters=2, in_chans=4), made)
