"""A run's loop from JPEGs in shards on: images a second, and how long it waits for its loader."""

import os
import shutil
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
from ccscale.data.remote.retry import Closing
from ccscale.plan.pace import set_up_alone
from ccscale.preempt import StopRequest
from ccscale.train.data_waits import DeviceWait
from ccscale.train.feed import Feed
from ccscale.train.setup import Setup
from ccscale.train.step import Stepper
from gpu_parts.clock import wait_for

SIZES = (
    (500, 375),
    (341, 256),
)  # as ImageNet's pictures are on average, and as `shards make --resize 256` leaves them


def measure(device: torch.device, dry: bool) -> None:
    """Print the figures; dry: with next to nothing, on any device."""
    if os.path.exists("/dev/shm"):
        print(f"/dev/shm: {shutil.disk_usage('/dev/shm').free / 1e9:.1f} GB free")
    batch, size, backbone, steps = (16, 32, "test_resnet", 4) if dry else (1024, 224, "resnet34", 10)
    for pictures in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            _make_shards(Path(folder), pictures, 64 if dry else 2048, 8 if dry else 64)
            settings = {
                "data": {"shards": f"{folder}/shards", "splits": ["train"]},
                "views": {"size": size},
                "model": {"backbone": backbone, "clusters": 10},
                "train": {
                    "global_batch": batch,
                    "precision": "bf16" if device.type == "cuda" else "fp32",
                    "device": device.type,
                    "epochs": 1000,
                },
            }
            setup = set_up_alone(parse_config(settings), device)
            _loader(setup, batch, 3 if dry else 6)
            for ahead in (True,) if pictures == SIZES[0] else (False, True):
                _loop(setup, batch, steps, ahead)


def _make_shards(folder: Path, size: tuple[int, int], images: int, kinds: int) -> None:
    """Write pictures of `kinds` kinds, each many times, and make shards of them."""
    (folder / "images" / "one").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for kind in range(kinds):
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        noise = rng.integers(-12, 13, (size[1], size[0], 3), dtype=np.int16)
        noisy = (np.asarray(smooth, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8)
        first = folder / "images" / "one" / f"{kind}-0.jpg"
        Image.fromarray(noisy).save(first, quality=90)
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
    bytes_each = (folder / "images" / "one" / "0-0.jpg").stat().st_size
    print(f"JPEGs of {size[0]}x{size[1]}, {bytes_each / 1e3:.0f} kB each:")


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
    waits, warm = list[float | DeviceWait](), 3
    with closing(Feed(setup.batches, setup.device)) as feed:
        feed.fetch_first()
        for step in range(warm + steps):
            if step == warm:
                wait_for(setup.device)
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
        wait_for(setup.device)
        seconds = time.perf_counter() - begun
    busy = sum(a.elapsed_time(b) for a, b in marks) / 1000 if cuda else float("nan")
    how = "fetched while the step runs" if ahead else "fetched after the step is launched"
    waited = sum(map(float, waits))
    print(
        f"loop, {how}: {steps * batch / seconds:,.0f} images/s, a step {1000 * seconds / steps:.0f} ms; the device "
        f"computes {1000 * busy / steps:.0f} ms of it and waits {1000 * waited / steps:.0f} ms for data"
    )
