"""tools/bench_loader.py on tiny data: what it compares is comparable, and its table holds what it should."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("cv2", reason="OpenCV (the extra `bench`) is not installed")

import bench_loader
from pipelines import NAMES, Pipelines, bare, make_files, view_settings
from worker_memory import worker_memory


@pytest.fixture(scope="module", autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_files(folder, 8)
    return folder


def test_files_are_like_imagenet_s(tmp_path):
    mean = make_files(tmp_path, 4)
    paths = sorted((tmp_path / "images").rglob("*.jpg"))
    assert mean == sum(path.stat().st_size for path in paths) // 4
    assert 80_000 < mean < 140_000
    with Image.open(paths[0]) as image:
        assert image.size == (500, 375)
        assert [factors[1:3] for factors in image.layer] == [(1, 1)] * 3  # no subsampling


def test_the_blur_is_the_paper_s():
    assert view_settings(224).blur_kernel == 23
    assert (view_settings(96).blur_kernel, view_settings(32).blur_kernel) == (9, 3)


@pytest.mark.parametrize("size", [32, 224])
def test_the_floor_makes_the_worker_s_views(files, size):
    """All that is left out of the floor is the mirroring."""
    pipelines = Pipelines(files, size, 4)
    first, second = (turn["c"]() for turn in itertools.islice(pipelines.turns(), 2))
    for number, batch in enumerate((first, second)):
        samples = pipelines._schedule.epoch(0).batch(number)
        views = [np.asarray(view) for view in bare(pipelines._plan(0, samples), size)]
        for i, view in itertools.product(range(4), range(2)):
            ours, floor = batch.images[view, i].numpy(), views[2 * i + view]
            assert any(np.array_equal(ours, way) for way in (floor, floor[:, ::-1]))
    assert not torch.equal(first.images, second.images)


def test_every_pipeline_makes_two_views_of_a_batch(files):
    for turn in itertools.islice(Pipelines(files, 32, 4).turns(), 3):  # into the second epoch
        made = {letter: call() for letter, call in turn.items()}
        for a, b in (made["a"][0], made["b"][:2]):
            assert a.shape == b.shape == (4, 3, 32, 32)
            assert not torch.equal(a, b)
        assert made["c"].images.shape == (2, 4, 32, 32, 3)
        assert made["d"].shape == (8, 3, 32, 32)
        assert not made["d"].equal(made["c"].images.flatten(0, 1).permute(0, 3, 1, 2) / 255)


ARGUMENTS = ("--sizes", "224", "16", "--images", "9", "--batch", "4", "--repeats", "2", "--blocks")


def test_prints_one_json_object(capsys):
    assert bench_loader.main([*ARGUMENTS, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["batch"], result["repeats"]) == (8, 4, 2)
    assert set(result["machine"]) == {"processor", "cores", "gpu", "python", "packages", "commit"}
    assert [*result["sizes"]] == ["224", "16"]
    for size, row in result["sizes"].items():
        assert set(row["milliseconds"]) == set(row["images_per_second"]) == set(NAMES)
        assert all(row["milliseconds"][a] * row["images_per_second"][a] == pytest.approx(1000) for a in NAMES)
        pairs = [(ratio["faster"], ratio["than"], ratio["bar"]) for ratio in row["ratios"]]
        bars = (0.85, 2.2, 1.2) if size == "224" else (0.85, None, None)
        assert pairs == list(zip("ccd", "eaa", bars, strict=True))
        assert row["memory"] == []


def test_ratios_are_of_speeds_turn_by_turn():
    seconds = {"a": [8.0, 8, 80], "b": [9.0, 9, 9], "c": [2.0, 2, 40], "d": [4.0, 4, 4], "e": [1.0, 1.5, 40]}
    found = bench_loader.figures(224, seconds, batch=4)
    assert found["milliseconds"] == {"a": 2000, "b": 2250, "c": 500, "d": 1000, "e": 375}
    assert [ratio["ratio"] for ratio in found["ratios"]] == [0.75, 4, 2]


def test_prints_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    memory = {"block": 1.0, "grown": 20.2, "bound": 45.0}
    monkeypatch.setattr(bench_loader, "worker_memory", lambda *_, **__: memory)
    assert bench_loader.main([*ARGUMENTS, "1"]) == 0
    out, err = capsys.readouterr()
    for name in NAMES.values():
        assert name in out
    assert "20 (45: met)" in out
    assert ("there is none" in out) == (not torch.cuda.is_available())
    assert "commit" in out
    assert "measuring" in err


@pytest.mark.parametrize(
    "wrong", [["--batch", "3"], ["--images", "4"], ["--sizes", "0"], ["--repeats", "0"], ["--batch", "0"]]
)
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        bench_loader.main(wrong)
    assert caught.value.code == 2
    assert "a batch is a multiple of 2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_s_memory_is_measured(tmp_path):
    make_files(tmp_path, 32)
    found = worker_memory(tmp_path / "shards", 64, 2**20, epochs=2)
    assert found["block"] == 1
    assert found["bound"] == pytest.approx(4 + 32 + 2 * 2 * 16 * 64 * 64 * 3 / 2**20)
    assert 0 < found["grown"] <= found["bound"]
