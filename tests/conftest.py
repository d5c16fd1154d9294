"""Fixtures that several test modules share. Everything is small, and made here."""

import gc
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share few cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lives
import unflushed
from harness.pictures import picture, save

from ccscale.cli.main import main
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.kinds import open_source
from ccscale.train import garbage

# A shell's script has what it puts into the background ignore Ctrl-C, and all processes begun from there.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("busy", deadline=None)  # no test depends on how fast the machine is
settings.load_profile("busy")
gc.disable()  # until all tests are imported
lives.IMPORTS = (unflushed.__name__, *lives.IMPORTS)  # of ranks, too
# A full collection walks over all that pytest and torch hold: of a run of two steps two fifths.
garbage.gc = SimpleNamespace(**vars(gc) | {"collect": lambda generation=1: gc.collect(generation)})  # type: ignore[assignment]


DRY = os.environ.get("CCSCALE_GPU_DRY") == "1"
"""Whether tests marked gpu are to run on a CPU where there is no GPU: that they run, not that a GPU is right."""
LONGEST = (
    "test_same_run.py",
    "test_launchers.py",
    "test_notebooks.py",
    "test_recipes.py",
    "test_boost_run.py",
    "test_tools.py",
    "test_estimator.py",
    "test_killed.py",
    "test_rank.py",
    "test_checkpoint_faults.py",
    "test_network_cost.py",
    "test_local.py",
    "test_gpu.py",
    "test_demo.py",
    "test_no_network.py",
)


def pytest_collection_finish() -> None:
    """Of what the imports and the tests are made of, nothing is looked through for garbage again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, but for those on Slurm: they wait for the most part, and the others run beside them.

    Of the slow ones the files that take longest come first, so that none is begun when the others have ended.
    """
    for item in items:
        if item.get_closest_marker("gpu") and not (torch.cuda.is_available() or DRY):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    last = len(LONGEST)
    of_file = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: (
            not item.get_closest_marker("slurm"),
            bool(item.get_closest_marker("slow")),
            of_file.get(item.path.name, last),
        )
    )


def make_images(folder: Path, count: int, size: tuple[int, int] = (40, 30), classes: int = 3) -> Path:
    """Write an image folder of smooth random images, `count` in all, in `classes` folders (0: in none)."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        place = folder / f"class{i % classes}" if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{i:04d}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The device of tests marked gpu: a GPU; a CPU if they run dry."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 images in 3 classes, in shards of up to 32."""
    root = tmp_path_factory.mktemp("images")
    source = open_source("folder", str(make_images(root / "folder", 150)))
    make_shards(source, root / "shards", shard_samples=32, workers=1, progress=False)
    return root / "shards"


@pytest.fixture(scope="session")
def manifest(shards: Path) -> Manifest:
    """The manifest of `shards`."""
    return Manifest.load(shards)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that CCSCALE_DATA names."""
    folder = os.environ.get("CCSCALE_DATA")
    if not folder:
        pytest.skip("CCSCALE_DATA is not set: no real images here")
    return Path(folder)


def unpack(archive: tarfile.TarFile, folder: Path, members: list[tarfile.TarInfo] | None = None) -> None:
    """Extract an archive of our own; Python 3.11.0 to 3.11.3 know no filters."""
    archive.extractall(folder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


@pytest.fixture(scope="session")
def tiny_imagenet(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny-ImageNet's 16 classes, unpacked: of the training images the first 12 of each."""
    root = tmp_path_factory.mktemp("tiny-imagenet")
    with tarfile.open(real_data / "tiny-imagenet-16.tar.gz") as archive:
        later = re.compile(r".*/n\d+_(1[2-9]|[2-9]\d|\d{3})\.JPEG")
        unpack(archive, root, [member for member in archive if not later.fullmatch(member.name)])
    (found,) = root.rglob("wnids.txt")
    return found.parent


@pytest.fixture
def pets(tmp_path) -> Path:
    """A folder of three splits, two of them in classes, in the three formats that are kept."""
    for split, number in (("train", 20), ("val", 7)):
        for i in range(number):
            label = ("cat", "dog", "eel")[i % 3]
            save(tmp_path / f"pets/{split}/{label}/{i:02d}.{('jpg', 'png', 'webp')[i // 3 % 3]}", picture(i))
    for i in range(5):
        save(tmp_path / f"pets/test/{i}.JPEG", picture(100 + i))
    return tmp_path / "pets"


def small_settings(shards: Path, run: Path, **changes: Any) -> dict[str, Any]:
    """Return a config, as YAML gives it, that trains in seconds; `changes` are overrides by dotted key."""
    settings: dict[str, Any] = {
        "run": str(run),
        "data": {"shards": str(shards), "workers": 0},
        "views": {"size": 16, "blur": 0.5, "blur_kernel": 3},
        "model": {"backbone": "test_resnet", "clusters": 4},
        "train": {"global_batch": 16, "epochs": 2, "device": "cpu", "log_every": 1},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        settings[section] = settings[section] | {name: value} if name else value
    return settings


def write_config(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="session")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on `shards`, 6 clusters; to be looked at, not to be changed."""
    root = tmp_path_factory.mktemp("run")
    changes = {"train__max_steps": 2, "model__clusters": 6, "model__stem": "small"}
    settings = small_settings(shards, root / "run", **changes)
    assert main(["train", str(write_config(root, settings))]) == 0
    return root / "run"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A terminal of another width would wrap the help elsewhere.
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "100"},
    )


@pytest.fixture
def refused(capsys, tmp_path):
    """Run a command line that must be refused; return the sentence.

    Exit code 2, one line on standard error, nothing on standard output, and nothing in the folder that was not
    there before.
    """

    def call(*arguments: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert code == 2
        assert sorted(tmp_path.rglob("*")) == before
        return line.removeprefix("error: ")

    return call
