"""From shards to batches: the same for every number of ranks and workers, from every step on, with bad images."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ccscale.config import Views, strong_view
from ccscale.data.images.whole import whole_image
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import PairBatch, Triples, pair_batches
from ccscale.data.reader import SampleReader
from ccscale.data.ring import Allot, plain_memory
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.data.whole_images import whole_batches
from ccscale.errors import InputError

VIEWS = Views(size=12, blur=0.5, blur_kernel=3)


def schedule_of(manifest: Manifest, lanes: int = 6) -> PhasedSchedule:
    sizes = tuple(shard.nsamples for shard in manifest.select(["train"]))
    return PhasedSchedule.single(Schedule(sizes, 5, 24, lanes, piece=4, block=7))


def read(
    manifest: Manifest,
    start: int = 0,
    stop: int = 9,
    world: int = 1,
    workers: int = 0,
    triples: Triples | None = None,
    views: Views = VIEWS,
    allot: Allot | None = None,
) -> list[PairBatch]:
    """Read global batches, those of several ranks joined."""
    schedule = schedule_of(manifest)
    ranks = [
        list(
            pair_batches(
                manifest,
                ["train"],
                schedule,
                views,
                start,
                stop,
                rank=rank,
                world=world,
                workers=workers,
                triples=triples,
                allot=allot,
            )
        )
        for rank in range(world)
    ]
    return [
        PairBatch(
            parts[0].step,
            np.concatenate([part.images.numpy() for part in parts], axis=1),  # type: ignore[arg-type]
            type(parts[0].colour).concatenate([part.colour for part in parts]),
            (sum(part.digest[0] for part in parts), sum(part.digest[1] for part in parts)),
            tuple(line for part in parts for line in part.bad),
            np.concatenate([part.samples for part in parts]),
        )
        for parts in zip(*ranks, strict=True)
    ]


def assert_equal(found: list[PairBatch], expected: list[PairBatch]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.step == b.step
        assert np.array_equal(np.asarray(a.images), np.asarray(b.images))
        for name in ("order", "factors", "grey", "sigma"):
            assert np.array_equal(getattr(a.colour, name), getattr(b.colour, name))
        assert a.digest == b.digest
        assert np.array_equal(a.samples, b.samples)
        assert sorted(a.bad) == sorted(b.bad)


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 4), (1, 9), (2, 0), (3, 0), (2, 2), (6, 3)])
def test_batches_are_the_same_for_every_number_of_ranks_and_workers(
    manifest: Manifest, world: int, workers: int
) -> None:
    assert_equal(read(manifest, world=world, workers=workers), read(manifest))


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_are_the_same_in_memory_that_is_given(manifest: Manifest, workers: int) -> None:
    given: list[Tensor] = []

    def allot(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        given.append(plain_memory(shape, dtype))
        return given[-1]

    found = read(manifest, workers=workers, allot=allot)
    assert_equal(found, read(manifest))
    assert [len(batch) for batch in given] == [2] * len(found)  # one each, for all workers' parts


@pytest.mark.parametrize("start", [1, 5, 6, 8])
def test_a_resume_goes_on_exactly_there(manifest: Manifest, start: int) -> None:
    assert schedule_of(manifest).steps_per_epoch == 6  # so that the starts lie in and between epochs
    assert_equal(read(manifest, start, workers=2), read(manifest)[start:])


FULL = VIEWS.model_copy(update={"scaled_decode": False})  # else a crop depends on what else is cut
TRIPLES = Triples(BoostSteps(4, 6, 20), FULL, strong_view(FULL, None))  # from step 6 on by labels


@pytest.mark.parametrize(("start", "world", "workers"), [(0, 1, 2), (5, 2, 0)])
def test_triples_begin_with_their_step_for_every_number_of_ranks_and_workers(
    manifest: Manifest, start: int, world: int, workers: int
) -> None:
    pairs, whole = read(manifest, views=FULL), read(manifest, triples=TRIPLES, views=FULL)
    assert_equal(whole[:4], pairs[:4])
    again = read(manifest, start, world=world, workers=workers, triples=TRIPLES, views=FULL)
    assert_equal(again, whole[start:])
    reader = SampleReader(manifest, ["train"])
    for pair, triple in zip(pairs[4:], whole[4:], strict=True):
        assert (pair.digest, triple.images.shape[0], len(triple.colour)) == (triple.digest, 3, 3)
        assert np.array_equal(triple.images[0], pair.images[0])  # weak: the first of the pair, here
        assert np.array_equal(triple.images[1], pair.images[1]) == (triple.step < 6)
        raw = [whole_image(reader[int(sample)].data, FULL.size, False) for sample in triple.samples]
        assert np.array_equal(triple.images[2], np.stack(raw))
        as_it_is = slice(2 if triple.step < 6 else 1, None)
        assert not triple.colour.sigma[as_it_is].any()
        assert not triple.colour.grey[as_it_is].any()


def test_the_digest_tells_batches_apart(manifest: Manifest) -> None:
    digests = [batch.digest for batch in read(manifest)]
    assert len(set(digests)) == len(digests)


def test_a_sample_is_seen_in_other_views_in_another_epoch(manifest: Manifest) -> None:
    first, *_, again = read(manifest, 0, 7)
    assert not np.array_equal(np.asarray(first.images), np.asarray(again.images))
    assert not np.array_equal(first.images[0], first.images[1])  # the two views of an image differ


@pytest.fixture
def damaged(shards: Path, tmp_path: Path) -> tuple[Manifest, set[str]]:
    """The shards with four images overwritten."""
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    keys = set()
    for shard, place in ((0, 3), (0, 4), (2, 0), (4, 11)):
        entry = manifest.shards[shard]
        index = read_index(manifest, entry)
        with open(manifest.locate(entry), "r+b") as file:
            file.seek(int(index.offsets[place]))
            file.write(b"\0" * 40)
        keys.add(index.keys[place])
    return manifest, keys


@pytest.mark.parametrize(("world", "workers"), [(1, 3), (3, 0)])
def test_bad_images_are_replaced_by_name_alike_everywhere(
    damaged: tuple[Manifest, set[str]], world: int, workers: int
) -> None:
    manifest, keys = damaged
    batches = read(manifest)
    named = {line.split(": ")[0] for batch in batches for line in batch.bad}
    assert named <= keys
    assert len(named) >= 3
    assert_equal(read(manifest, world=world, workers=workers), batches)


def test_bad_images_leave_all_others_as_they_are(
    damaged: tuple[Manifest, set[str]], manifest: Manifest
) -> None:
    reader = SampleReader(damaged[0], ["train"])
    order = schedule_of(manifest).order(0)
    for good, bad in zip(read(manifest, 0, 6), read(damaged[0], 0, 6), strict=True):
        samples = order.batch(good.step)
        hit = np.array([reader.key(int(sample)) in damaged[1] for sample in samples])
        assert np.array_equal(np.asarray(good.images)[:, ~hit], np.asarray(bad.images)[:, ~hit])
        for place in np.flatnonzero(hit):
            assert not np.array_equal(good.images[:, place], bad.images[:, place])
            assert bad.images[:, place].std() > 0


def test_data_without_any_image_are_given_up(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    for shard in manifest.shards:
        index = read_index(manifest, shard)
        with open(manifest.locate(shard), "r+b") as file:
            for offset in index.offsets:
                file.seek(int(offset))
                file.write(b"\0" * 20)
    with pytest.raises(InputError, match="cannot be decoded"):
        read(manifest, 0, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_is_cut_off_is_named(shards: Path, tmp_path: Path, workers: int) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    manifest = Manifest.load(copy)
    with open(manifest.locate(manifest.shards[1]), "r+b") as file:
        file.truncate(5000)
    with pytest.raises(InputError, match=r"train-000001\.tar.*cut off"):
        read(manifest, workers=workers)


@pytest.mark.parametrize(("world", "workers", "batch"), [(1, 0, 64), (1, 3, 7), (4, 0, 16), (7, 2, 5)])
def test_evaluation_sees_every_sample_exactly_once(
    manifest: Manifest, world: int, workers: int, batch: int
) -> None:
    keys, samples, labels = [], [], []
    for rank in range(world):
        for part in whole_batches(manifest, ["train"], 12, batch, rank=rank, world=world, workers=workers):
            assert part.images.shape == (len(part.keys), 12, 12, 3)
            keys += part.keys
            samples += part.samples.tolist()
            labels += part.labels.tolist()
    assert samples == list(range(150))
    assert len(set(keys)) == 150
    assert labels == [int(key.split("/")[0].removeprefix("class")) for key in keys]


def test_evaluation_names_bad_images_and_keeps_their_place(damaged: tuple[Manifest, set[str]]) -> None:
    parts = list(whole_batches(damaged[0], ["train"], 12, 32))
    bad = {key for part in parts for key, is_bad in zip(part.keys, part.bad, strict=True) if is_bad}
    assert bad == damaged[1]
    assert {line.split(": ")[0] for part in parts for line in part.reasons} == damaged[1]
    assert sum(len(part.keys) for part in parts) == 150
