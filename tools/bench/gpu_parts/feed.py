"""A run's loop from JPEGs in shards on: images a second, and how long it waits for its loader."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ccscale.config.file import parse_config
from ccscale.data.loader import default_workers
from ccscale.data.remote.retry import Closing
from ccscale.plan.pace import set_up_alone
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.data_waits import DeviceWait
from ccscale.train.feed import Feed
from ccscale.train.setup import Setup
from ccscale.train.step import Stepper

SIZE = (500, 375)  # as ImageNet's pictures are on average


def measure(device: torch.device, dry: bool) -> None:
    """Print the figures; dry: with next to nothing, on any device."""
    images, batch, size, backbone, steps = (
        (64, 16, 32, "test_resnet", 4) if dry else (4096, 1024, 224, "resnet34", 14)
    )
    with tempfile.TemporaryDirectory() as folder:
        _make_shards(Path(folder), images, 8 if dry else 128)
        shm = Path("/dev/shm")
        if shm.exists():
            stat = os.statvfs(shm)
            print(
                f"/dev/shm: {stat.f_bavail * stat.f_frsize / 1e9:.1f} GB free; default workers {default_workers()}"
            )
        config = parse_config(
            {
                "data": {"shards": f"{folder}/shards", "splits": ["train"]},
                "views": {"size": size},
                "model": {"backbone": backbone, "clusters": 10},
                "train": {
                    "global_batch": batch,
                    "precision": "bf16" if device.type == "cuda" else "fp32",
                    "device": device.type,
                    "max_steps": 1000,
                    "epochs": 1000,
                },
            }
        )
        with process_group(RankEnvironment(), device):
            setup = set_up_alone(config, device)
            _loader(setup, batch, 3 if dry else 8)
            for ahead in (False, True):
                _loop(setup, batch, steps, ahead)


def _make_shards(folder: Path, images: int, kinds: int) -> None:
    """Write pictures of `kinds` kinds, each many times, and make shards of them."""
    begun = time.perf_counter()
    (folder / "images" / "one").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for kind in range(kinds):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(
            -12, 13, (SIZE[1], SIZE[0], 3), dtype=np.int16
        )
        first = folder / "images" / "one" / f"{kind}-0.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(first, quality=90)
        for number in range(1, images // kinds):
            first.with_name(f"{kind}-{number}.jpg").write_bytes(first.read_bytes())
    make = [
        sys.executable,
        "-m",
        "ccscale",
        "shards",
        "make",
        "folder",
        f"{folder}/images",
        f"{folder}/shards",
    ]
    subprocess.run(make, check=True, capture_output=True)
    size = (folder / "images" / "one" / "0-0.jpg").stat().st_size
    seconds = time.perf_counter() - begun
    print(f"{images} JPEGs of {SIZE[0]}x{SIZE[1]}, {size / 1e3:.0f} kB each; made in {seconds:.1f} s")


def _loader(setup: Setup, batch: int, count: int) -> None:
    """Print what the loader gives when nobody computes."""
    closed = Closing()
    batches = setup.batches(closed)
    next(batches)
    begun = time.perf_counter()
    for _ in range(count):
        next(batches)
    rate = count * batch / (time.perf_counter() - begun)
    print(f"loader alone, {setup.workers} workers: {rate:,.0f} images/s")
    closed.set()
    batches.close()  # type: ignore[attr-defined]


def _loop(setup: Setup, batch: int, steps: int, ahead: bool) -> None:
    """Print the rate of steps as the training loop takes them, and what the device waits between two."""
    stepper, request, cuda = (
        Stepper(setup.config, setup.engine, setup.device),
        StopRequest(),
        setup.device.type == "cuda",
    )
    losses = setup.config.phases[0].losses
    marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    waits, warm = list[float | DeviceWait](), 4
    with closing(Feed(setup.batches, setup.device)) as feed:
        feed.fetch_first()
        for step in range(warm + steps):
            if step == warm:
                _settle(setup.device)
                begun = time.perf_counter()
                marks.clear()
                waits.clear()
            feed.check()
            if ahead:
                feed.begin()
            if cuda:
                mark = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                mark[0].record()
            stepper.take(feed.batch, losses)
            if cuda:
                mark[1].record()
                marks.append(mark)
            feed.fetch(request)
            waits.append(feed.wait)
        _settle(setup.device)
        seconds = time.perf_counter() - begun
    busy = sum(a.elapsed_time(b) for a, b in marks) / 1000 if cuda else float("nan")
    how = "fetched while the step runs" if ahead else "fetched after the step is launched"
    waited = sum(map(float, waits))
    print(
        f"loop, {how}: {steps * batch / seconds:,.0f} images/s, a step {1000 * seconds / steps:.0f} ms; the device "
        f"computes {1000 * busy / steps:.0f} ms of it and waits {1000 * waited / steps:.0f} ms for data"
    )


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"), not torch.cuda.is_available())
