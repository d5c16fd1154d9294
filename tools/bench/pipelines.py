"""The pipelines that `loader.py` compares, batch by batch on the same files; and these files.

    (a) paper        image folder, PIL, torchvision's transforms on PIL images, OpenCV's blur
    (b) webdataset   the usual WebDataset pipeline, with the same transforms
    (c) worker       what ccscale's loader process does: read, decode once, cut both views
    (d) colour       (c), then colour and blur on this CPU
    (e) floor        decode and the same two crops in a bare loop, from bytes in memory

All make two views of every image and work in this process, on one thread.
"""

import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
import webdataset as wds
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from ccscale.config import Views
from ccscale.data.conversion.shards import make_shards
from ccscale.data.images.colour import apply_colour
from ccscale.data.images.decode import Box
from ccscale.data.images.views import VIEWS, crop_box, draw_views
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule
from ccscale.data.pairs import PairBatch, pair_batches
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.kinds import open_source

WIDTH, HEIGHT = 500, 375
LANES = 2  # so few that the blocks of a small data set are as long as those of a large one

NAMES = {
    "a": "paper's code: PIL, OpenCV's blur",
    "b": "WebDataset, same transforms",
    "c": "ccscale's worker",
    "d": "(c), colour and blur on this CPU",
    "e": "floor: bare decoding and crops",
}

Turn = dict[str, Callable[[], object]]
Pixels = tuple[int, int, int, int]
Planned = tuple[bytes, int, list[tuple[Pixels, Box]]]


def make_files(folder: Path, count: int) -> int:
    """Write `count` JPEGs like ImageNet's as an image folder and as shards; return their mean size in bytes.

    Random crops of scikit-learn's two photographs, resized to 500x375, at quality 96 without subsampling.
    """
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    total = 0
    for i in range(count):
        photograph = photographs[i % 2]
        width = rng.uniform(0.4, 0.87) * photograph.width
        height = width * HEIGHT / WIDTH
        left, top = rng.uniform(0, photograph.width - width), rng.uniform(0, photograph.height - height)
        path = folder / "images" / f"class{i % 2}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = photograph.resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
        )
        image.save(path, quality=96, subsampling=0)
        total += path.stat().st_size
    make_shards(open_source("folder", str(folder / "images")), folder / "shards", workers=1, progress=False)
    return total // count


def view_settings(size: int) -> Views:
    """Return what the paper does on ImageNet, with the blur's kernel a tenth of the size (23 at 224 px)."""
    return Views(size=size, strength=1.0, blur=0.5, blur_kernel=int(0.1 * size) | 1)


class PaperViews:
    """Two views of a PIL image as the published code makes them."""

    def __init__(self, settings: Views) -> None:
        s = settings.strength
        jitter = transforms.ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(settings.size),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([jitter], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                _OpenCVBlur(settings.blur_kernel),
                transforms.ToTensor(),
            ]
        )

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        return self._transform(image), self._transform(image)


class _OpenCVBlur:
    """The published code's GaussianBlur."""

    def __init__(self, kernel: int) -> None:
        self._kernel = kernel
        self._rng = np.random.default_rng(0)

    def __call__(self, image: Image.Image) -> np.ndarray:
        pixels = np.array(image)
        if self._rng.random() < 0.5:
            sigma = 1.9 * self._rng.random() + 0.1
            pixels = cv2.GaussianBlur(pixels, (self._kernel, self._kernel), sigma)
        return pixels


class Pipelines:
    """The five pipelines at one size.

    Parameters
    ----------
    folder
        Where `make_files` wrote.
    size
        Side of a view in pixels.
    batch
        Images in a batch; the data set holds a multiple of it.
    """

    def __init__(self, folder: Path, size: int, batch: int) -> None:
        self.settings = view_settings(size)
        self._manifest = Manifest.load(folder / "shards")
        shards = self._manifest.select(["train"])
        self._schedule = Schedule(tuple(shard.nsamples for shard in shards), 0, batch, LANES, piece=1)
        reader = SampleReader(self._manifest, ["train"])
        # All of them from the start: bytes that were read a moment ago would still be in the core's cache.
        self._files = [reader[sample].data for sample in range(len(reader))]

        views = PaperViews(self.settings)
        images = torchvision.datasets.ImageFolder(str(folder / "images"), views)
        self._paper = DataLoader(images, batch, shuffle=True)
        tars = [self._manifest.locate(shard) for shard in shards]
        usual = wds.WebDataset(tars, shardshuffle=False).shuffle(1000).decode("pil").to_tuple("jpg", "cls")
        self._usual = wds.WebLoader(
            usual.map(lambda sample: (*views(sample[0]), sample[1])).batched(batch),
            batch_size=None,
            num_workers=0,
        )

    def turns(self) -> Iterator[Turn]:
        """Yield for one batch after another what each pipeline has to do for it; each is to be called once.

        (c), (d) and (e) make the same views of the same images.
        """
        paper, usual = _again_and_again(self._paper), _again_and_again(self._usual)
        worker, to_colour = self._pairs(), self._pairs()
        for epoch in itertools.count():
            for samples in map(self._schedule.epoch(epoch).batch, range(self._schedule.steps_per_epoch)):
                yield {
                    "a": lambda: next(paper),
                    "b": lambda: next(usual),
                    "c": lambda: next(worker),
                    "d": lambda: self.coloured(next(to_colour)),
                    "e": partial(deque, bare(self._plan(epoch, samples), self.settings.size), maxlen=0),
                }

    def coloured(self, batch: PairBatch, device: str = "cpu") -> Tensor:
        """Apply colour and blur as the training loop does: (2n, 3, size, size) float32."""
        return apply_colour(batch.images.to(device).flatten(0, 1), batch.colour.flatten(), self.settings)

    def first_batch(self) -> PairBatch:
        """Return the first batch of (c), anew."""
        return next(self._pairs())

    def _pairs(self) -> Iterator[PairBatch]:
        return pair_batches(
            self._manifest, ["train"], PhasedSchedule.single(self._schedule), self.settings, 0, 2**31
        )

    def _plan(self, epoch: int, samples: np.ndarray) -> list[Planned]:
        """Return of each image its bytes, the DCT scale and the crops: as (c) works them out."""
        size, scales, ratios = self.settings.size, self.settings.crop_scale, self.settings.crop_ratio
        assert scales is not None
        params = draw_views(self.settings, self._schedule.seed, epoch, samples)
        plan = []
        for i, sample in enumerate(samples):
            boxes = [crop_box(params.crop[view, i], WIDTH, HEIGHT, scales, ratios) for view in range(VIEWS)]
            side = min(min(width, height) for _, _, width, height in boxes)
            scale = next((s for s in (8, 4, 2) if side >= s * size), 1)
            plan.append((self._files[sample], scale, [_crop(box, scale) for box in boxes]))
        return plan


def bare(plan: list[Planned], size: int) -> Iterator[Image.Image]:
    """Decode and cut what was planned, two views an image; mirroring is left out."""
    for data, scale, crops in plan:
        image = Image.open(io.BytesIO(data))
        if scale > 1:
            image.draft(None, (WIDTH // scale, HEIGHT // scale))
        image.load()
        for pixels, box in crops:
            yield image.crop(pixels).resize((size, size), Image.Resampling.BILINEAR, box)


def one_thread() -> None:
    """Keep the libraries of all pipelines to one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _crop(box: tuple[int, int, int, int], scale: int) -> tuple[Pixels, Box]:
    """Return a box of the reduced image as whole pixels, and the box within these."""
    left, top = box[0] / scale, box[1] / scale
    right, bottom = left + box[2] / scale, top + box[3] / scale
    x, y = math.floor(left), math.floor(top)
    return (x, y, math.ceil(right), math.ceil(bottom)), (left - x, top - y, right - x, bottom - y)


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from batches
