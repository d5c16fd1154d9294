"""Embedding: each image's row once and in its place, the same bytes on any number of ranks and after any death."""

import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.pictures import contents, spoil
from harness.ranks import run_ranks
from harness.stores import small_blocks
from safetensors.torch import load_file, save_file

import ccscale
from ccscale import atomic
from ccscale.config import Model, Views
from ccscale.data.images.colour import apply_colour, to_float
from ccscale.data.images.crops import crop_views
from ccscale.data.images.views import draw_views
from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.whole_images import _number
from ccscale.embed.backbone import backbone_of_timm
from ccscale.embed.embed import BackboneSource, EmbedOptions, embed_shards
from ccscale.embed.verify import verify_store
from ccscale.errors import InputError
from ccscale.preempt import StopRequest

MODEL = Model(backbone="test_resnet", stem="small", normalize=True, clusters=2)
SOURCE = BackboneSource(MODEL, "random")
VIEWS = Views(crop_scale=(0.3, 1.0), blur=0.5, blur_kernel=3)
WANTED = EmbedOptions(size=16, views=2, view_settings=VIEWS, dtype="float32", batch=12)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    small_blocks(monkeypatch.setattr)


def embed(shards: Path, out: Path, wanted: EmbedOptions = WANTED, source: BackboneSource = SOURCE, **options):
    return embed_shards(str(shards), out, source, wanted, device="cpu", **{"workers": 0, **options})


@pytest.fixture(scope="module")
def unbroken(shards, tmp_path_factory) -> Path:
    """The store of `shards`, made at once."""
    out = tmp_path_factory.mktemp("unbroken") / "store"
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch.setattr)
        result = embed(shards, out)
    assert result["rows"] == result["new"] == 150
    assert not (out / "parts").exists()
    return out


@pytest.fixture(scope="module")
def store(unbroken):
    return ccscale.open_features(unbroken)


def test_rows_are_the_shards_samples(store, manifest):
    reader = SampleReader(manifest, manifest.splits)
    assert store.keys.to_pylist() == [reader.key(i) for i in range(150)]
    assert store.labels.tolist() == [reader[i].label for i in range(150)]
    assert store.manifest_digest == manifest.digest(manifest.splits)
    assert store.manifest.labelled == manifest.labelled
    assert not store.bad.any()


def test_features_are_the_backbone_s(store, manifest):
    """Of the whole image as evaluation sees it, and of views that follow from seed, number and key."""
    reader = SampleReader(manifest, manifest.splits)
    backbone = backbone_of_timm(MODEL, 16, 0, torch.device("cpu"), "random")
    samples = [reader[i] for i in (0, 7, 149)]
    whole = torch.from_numpy(np.stack([whole_image(sample.data, 16) for sample in samples]))
    numbers = np.array([_number(sample.key) for sample in samples], np.uint64).view(np.int64)
    settings = VIEWS.model_copy(update={"size": 16})
    params = draw_views(settings, 0, 0, numbers, 2)
    views = np.stack(
        [crop_views(sample.data, settings, params, i) for i, sample in enumerate(samples)], axis=1
    )
    random = apply_colour(torch.from_numpy(views).flatten(0, 1), params.colour.flatten(), settings)
    expected = backbone.features(torch.cat([to_float(whole), random]), "float32").view(3, 3, -1)
    for view in range(3):
        assert np.allclose(store.take(np.array([0, 7, 149]), view), expected[view], atol=1e-5)
    assert not np.allclose(expected[1], expected[2], atol=1e-2)


def test_the_backbone_is_kept(unbroken):
    weights = load_file(unbroken / "backbone.safetensors")
    backbone = backbone_of_timm(MODEL, 16, 0, torch.device("cpu"), "random").module.state_dict()
    assert weights.keys() == backbone.keys()
    assert all(torch.equal(weights[name], value) for name, value in backbone.items())


def embed_on_rank(rank: int, shards: Path, out: Path) -> None:
    small_blocks()
    result = embed(shards, out)
    assert (result is None) == (rank > 0)


@pytest.mark.dist
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.slow
def test_any_number_of_ranks_makes_the_same_bytes(world, shards, unbroken, tmp_path):
    run_ranks(world, embed_on_rank, shards, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(unbroken)


def test_workers_make_the_same_bytes(shards, unbroken, tmp_path):
    embed(shards, tmp_path / "store", workers=2)
    assert contents(tmp_path / "store") == contents(unbroken)


class Death(BaseException):
    """A process that is gone: nobody catches it."""


@contextmanager
def death_at(number: int, after: bool, monkeypatch) -> Iterator[None]:
    """Die at the so-manieth file that is written: before it has its name, or right after."""
    replacing, count = atomic.replacing, 0

    @contextmanager
    def dying(*arguments, **options):
        nonlocal count
        count += 1
        with replacing(*arguments, **options) as file:
            yield file
            if count == number and not after:
                raise Death
        if count == number and after:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "replacing", dying)
        yield


@pytest.mark.parametrize("after", [False, True])
def test_deaths_anywhere_change_nothing(after, shards, unbroken, tmp_path, monkeypatch):
    """At the first file, at the second that is written then, and so on, until it is through."""
    for life in range(1, 20):
        try:
            with death_at(life, after, monkeypatch):
                embed(shards, tmp_path / "store")
        except Death:
            continue
        break
    assert life > 5
    assert contents(tmp_path / "store") == contents(unbroken)


def test_again_nothing_is_done(shards, unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path / "store")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()}
    assert embed(shards, tmp_path / "store")["new"] == 0
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()} == before


def save_manifest(folder: Path, shards: Sequence[Shard], like: Manifest) -> None:
    labelled = {"train": sum(shard.nsamples for shard in shards)}
    Manifest(str(folder), like.name, tuple(shards), like.classes, like.class_ids, labelled, {}).save()


def test_shards_that_are_new_are_added(shards, unbroken, tmp_path):
    """Also between those that are there: a sample's views do not depend on its number."""
    some, out = tmp_path / "some", tmp_path / "store"
    shutil.copytree(shards, some)
    manifest = Manifest.load(shards)
    kept = [manifest.shards[i] for i in (0, 2)]
    save_manifest(some, kept, manifest)
    embed(some, out)
    assert ccscale.open_features(out).rows == 60
    assert embed(shards, out)["new"] == 90
    assert contents(out) == contents(unbroken)


def test_images_that_cannot_be_decoded_keep_their_rows(shards, unbroken, tmp_path):
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    manifest = Manifest.load(copy)
    key = spoil(manifest, 1, 5).keys[5]
    result = embed(copy, tmp_path / "store")
    store, whole = ccscale.open_features(tmp_path / "store"), ccscale.open_features(unbroken)
    assert result["bad"] == 1
    assert result["reasons"][0].startswith(f"{key}: ")
    (row,) = np.flatnonzero(store.bad)
    assert (row, store.keys[row].as_py()) == (35, key)
    others = np.flatnonzero(~store.bad)
    for view in range(3):
        assert not store.take(np.array([row]), view).any()
        assert np.array_equal(store.take(others, view), whole.take(others, view))


def test_features_that_are_not_finite_are_named(shards, tmp_path):
    """Float16 ends at 65,504; what is beyond is no feature, and in float32 it is one."""
    weights = backbone_of_timm(MODEL, 16, 0, torch.device("cpu"), "random").weights
    last = [name for name in weights if name.endswith("bn2.bias")][-1]
    save_file(weights | {last: torch.full_like(weights[last], 1e6)}, tmp_path / "w.safetensors")
    source = BackboneSource(MODEL, str(tmp_path / "w.safetensors"))
    result = embed(shards, tmp_path / "half", EmbedOptions(size=16, dtype="float16"), source)
    assert result["bad"] == 150
    assert result["reasons"][0].endswith(": its features are not finite")
    assert not ccscale.open_features(tmp_path / "half").take(np.arange(150)).any()
    assert embed(shards, tmp_path / "whole", EmbedOptions(size=16, dtype="float32"), source)["bad"] == 0


def test_the_backbone_of_a_run(run, shards, tmp_path):
    embed(shards, tmp_path / "store", EmbedOptions(dtype="float32"), BackboneSource(run=str(run)))
    store = ccscale.open_features(tmp_path / "store")
    network = ccscale.load(sorted((run / "checkpoints").iterdir())[-1])
    reader = SampleReader(store.manifest_at(Manifest.load(shards)), store.splits)
    images = to_float(
        torch.from_numpy(np.stack([whole_image(reader[i].data, network.size) for i in (3, 99)]))
    )
    assert np.allclose(store.take(np.array([3, 99])), network(images).features.detach(), atol=1e-5)
    assert store.settings.origin == f"{run}, step 2"
    assert store.model["stem"] == "small"


def test_following_ends_with_a_request(shards, tmp_path):
    """One that comes while nothing is there to do, and shards may appear."""
    request = StopRequest()
    later = threading.Timer(0.5, lambda: request._note(signal.SIGTERM, None))
    later.start()
    try:
        result = embed(shards, tmp_path / "store", following=True, request=request, idle=60)
    finally:
        later.join()
    assert request
    assert result["out"] == str(tmp_path / "store")


@pytest.mark.slow
def test_shards_that_appear(shards, unbroken, tmp_path):
    """None has a manifest; what is there is a store whenever nothing is under way."""
    growing = tmp_path / "growing"
    growing.mkdir()
    tars = sorted(shards.glob("*.tar"))
    for new in (tars[:2], tars[2:]):
        for tar in new:
            shutil.copy(tar, growing)
        result = embed(growing, tmp_path / "store", following=True, idle=1.5)
        assert result["new"] == 30 * len(new)
    found, whole = ccscale.open_features(tmp_path / "store"), ccscale.open_features(unbroken)
    assert all(np.array_equal(found.array(view), whole.array(view)) for view in range(3))
    assert embed(shards, tmp_path / "store")["new"] == 0  # the manifest lists them now
    assert not verify_store(tmp_path / "store", str(shards), progress=False).problems


class TestRefused:
    @pytest.mark.parametrize(
        ("wanted", "what"),
        [
            (EmbedOptions(16, 1, VIEWS, 0, "float32"), "views was 2 and is now 1"),
            (EmbedOptions(24, 2, VIEWS, 0, "float16"), "dtype was 'float32' and is now 'float16'"),
            (EmbedOptions(16, 2, VIEWS, 5, "float32"), "seed was 0 and is now 5"),
            (
                EmbedOptions(16, 2, VIEWS.model_copy(update={"grey": 0.3}), 0, "float32"),
                "view_settings.grey was 0.2 and is now 0.3",
            ),
        ],
    )
    def test_other_settings(self, wanted, what, shards, unbroken):
        with pytest.raises(InputError) as caught:
            embed(shards, unbroken, wanted)
        message = str(caught.value)
        assert message.startswith(f"{unbroken} has features made with other settings: ")
        assert what in message
        assert message.endswith("; delete it, or choose another folder")

    def test_other_weights(self, shards, unbroken):
        source = BackboneSource(MODEL.model_copy(update={"stem": "standard"}), "random")
        with pytest.raises(InputError, match=r"its weights were others \(random .*\), and are now of random"):
            embed(shards, unbroken, WANTED, source)

    def test_other_shards(self, shards, unbroken, tmp_path):
        copy = tmp_path / "shards"
        shutil.copytree(shards, copy)
        manifest = Manifest.load(copy)
        first, *others = manifest.shards
        changed = type(first)(first.url, first.nsamples, first.filesize, "f" * 64, first.split)
        for kept, what in (
            ((changed, *others), f"{first.url} with other contents than it has in {copy}"),
            (tuple(others), f"{first.url}, which {copy} does not have"),
        ):
            save_manifest(copy, kept, manifest)
            with pytest.raises(InputError) as caught:
                embed(copy, unbroken)
            assert str(caught.value) == (
                f"{unbroken} does not belong to these shards: it has features of {what}; it was made from "
                f"{manifest.name!r} in {shards}: give those shards, or another folder"
            )

    def test_a_folder_of_something_else(self, shards, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match="is neither empty nor a feature store; choose another folder"):
            embed(shards, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
