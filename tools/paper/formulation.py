"""The published single-GPU formulation of Contrastive Clustering, as plainly as it was published.

One process; torchvision's transforms on PIL images in a DataLoader; a forward pass for each view, with ordinary
batch norm; the losses by the whole similarity matrix with a mask; torch's Adam, one learning rate, no decay
(paper, section 'Implementation details').
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from boosting import Boosting
from cell import SCORES
from PIL import Image
from plain_network import Network
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from ccscale.config import Config, Views, strong_view, weak_view
from ccscale.data.images.crops import GREY
from ccscale.data.images.decode import decode, open_image
from ccscale.data.loader import default_workers
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.evaluate.metrics import scores
from ccscale.progress import Meter
from ccscale.train.setup import open_data

BILINEAR = InterpolationMode.BILINEAR


def transform(views: Views) -> transforms.Compose:
    """Return torchvision's transforms for the views of a config."""
    steps: list[Any] = [transforms.Resize((views.size, views.size), BILINEAR)]
    if views.crop_scale is not None:
        steps = [transforms.RandomResizedCrop(views.size, views.crop_scale, views.crop_ratio, BILINEAR)]
    if views.rotate or views.translate or views.zoom != (1, 1):
        shift = (views.translate, views.translate)
        steps.append(transforms.RandomAffine(views.rotate, shift, views.zoom, interpolation=BILINEAR))
    s = views.strength
    jitter = transforms.ColorJitter(
        s * views.brightness, s * views.contrast, s * views.saturation, s * views.hue
    )
    blur = transforms.GaussianBlur(views.blur_kernel, views.blur_sigma)
    steps.append(transforms.RandomHorizontalFlip(views.flip))
    if views.rand_augment:
        steps.append(transforms.RandAugment(views.rand_augment, views.magnitude, interpolation=BILINEAR))
    steps += [
        transforms.RandomApply([jitter], p=views.jitter),
        transforms.RandomGrayscale(views.grey),
        transforms.RandomApply([blur], p=views.blur),
        transforms.ToTensor(),
        *([Cutout(round(views.cutout * views.size))] if views.cutout else []),
    ]
    return transforms.Compose(steps)


class Cutout:
    """Erases a square of an image, its middle anywhere."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Tensor) -> Tensor:
        """Return it with a grey square."""
        top, left = ((torch.rand(2) * image.shape[1]).long() - self.side // 2).tolist()
        bottom, right = top + self.side, left + self.side
        image[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = GREY / 255
        return image


class Images(Dataset[Any]):
    """Images of shards, read and decoded as ccscale does it, at full scale."""

    def __init__(self, manifest: Manifest, splits: Sequence[str]) -> None:
        self.reader = SampleReader(manifest, splits)

    def __len__(self) -> int:
        return len(self.reader)

    def image(self, number: int) -> tuple[Image.Image, int]:
        """Return an image and its label."""
        sample = self.reader[number]
        encoded = open_image(sample.data)
        image, _ = decode(encoded, [(0, 0, encoded.width, encoded.height)], None)
        return image, sample.label


class Pairs(Images):
    """Two views of every image."""

    def __init__(self, manifest: Manifest, splits: Sequence[str], views: Views) -> None:
        super().__init__(manifest, splits)
        self.transform = transform(views)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, _ = self.image(number)
        return self.transform(image), self.transform(image)


class Triples(Images):
    """Every image's number, a weak view of it, a strong one, and the image resized."""

    def __init__(self, manifest: Manifest, splits: Sequence[str], settings: Sequence[Views]) -> None:
        super().__init__(manifest, splits)
        self.transforms = [transform(views) for views in settings]

    def __getitem__(self, number: int) -> tuple[int, list[Tensor]]:
        image, _ = self.image(number)
        return number, [transform(image) for transform in self.transforms]


class Whole(Images):
    """Every image resized, and its label."""

    def __init__(self, manifest: Manifest, splits: Sequence[str], size: int) -> None:
        super().__init__(manifest, splits)
        self.transform = transforms.Compose(
            [transforms.Resize((size, size), BILINEAR), transforms.ToTensor()]
        )

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image, label = self.image(number)
        return self.transform(image), label


def contrast(rows: Tensor, temperature: float) -> Tensor:
    """Return the mean contrast of 2n rows, row i's positive being row i + n modulo 2n, from the whole matrix."""
    count = len(rows)
    similarity = rows @ rows.T / temperature
    numbers = torch.arange(count, device=rows.device)
    positive = (numbers + count // 2) % count
    negatives = torch.ones(count, count, dtype=torch.bool, device=rows.device)
    negatives[numbers, numbers] = False  # an image is never its own negative,
    negatives[numbers, positive] = False  # nor is its other view
    logits = torch.cat(
        [similarity[numbers, positive][:, None], similarity[negatives].reshape(count, count - 2)], dim=1
    )
    return F.cross_entropy(logits, torch.zeros(count, dtype=torch.long, device=rows.device))


def whole_instance_loss(z_a: Tensor, z_b: Tensor, temperature: float) -> Tensor:
    """Return the instance-level loss of (N, d) embeddings of unit length."""
    return contrast(torch.cat([z_a, z_b]), temperature)


def whole_cluster_loss(p_a: Tensor, p_b: Tensor, temperature: float) -> Tensor:
    """Return the cluster-level loss of (N, K) soft assignments, with the entropy."""
    entropy = torch.zeros((), dtype=p_a.dtype, device=p_a.device)
    for p in (p_a, p_b):
        q = p.sum(dim=0) / p.sum()
        entropy = entropy + math.log(len(q)) + (q * torch.log(q)).sum()
    columns = F.normalize(torch.cat([p_a.T, p_b.T]), dim=1)  # (2K, N)
    return contrast(columns, temperature) + entropy


def train(config: Config) -> dict[str, Any]:
    """Train by the published formulation and score the last step."""
    device = pick_device(config.train.device)
    workers = default_workers() if config.data.workers is None else config.data.workers
    manifest, settings, epochs = open_data(config)[1], config.loss, config.train.epochs
    torch.manual_seed(config.seed)
    network = Network(config).to(device)

    def batches(images: Images) -> DataLoader[Any]:
        return DataLoader(
            images,
            config.train.global_batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=device.type == "cuda",
        )

    loader = batches(Pairs(manifest, config.data.splits, config.views))
    optimizer = torch.optim.Adam(
        network.parameters(), lr=config.train.lr, weight_decay=config.train.weight_decay
    )
    steps, start = 0, time.perf_counter()
    with Meter("published formulation", epochs, "epochs", show=True) as meter:
        for epoch in range(epochs):
            for x_a, x_b in loader:
                optimizer.zero_grad()
                z_a, z_b, p_a, p_b = network(x_a.to(device), x_b.to(device))
                loss = settings.instance_weight * whole_instance_loss(z_a, z_b, settings.instance_temperature)
                loss = loss + settings.cluster_weight * whole_cluster_loss(
                    p_a, p_b, settings.cluster_temperature
                )
                loss.backward()
                optimizer.step()
                steps += 1
            meter.update(epoch + 1, f"loss {loss.item():.4f}")
    boost = config.stages.boost
    if boost.epochs:
        weak, strong = weak_view(config.views, boost.weak), strong_view(config.views, boost.strong)
        loader = batches(Triples(manifest, config.data.splits, (weak, strong, weak.plain)))
        boosting = Boosting(config, network, optimizer, whole_cluster_loss)
        with Meter("the same, self-labelling", boost.epochs, "epochs", show=True) as meter:
            for epoch in range(boost.epochs):
                for numbers, views in loader:
                    boosting.step(numbers.tolist(), [x.to(device) for x in views], trains=epoch > 0)
                    steps += 1
                meter.update(epoch + 1, f"{len(boosting.labels)} labels")
    seconds = time.perf_counter() - start
    return {"steps": steps, "seconds": seconds, **score(config, network, manifest, device, workers)}


@torch.inference_mode()
def score(
    config: Config, network: Network, manifest: Manifest, device: torch.device, workers: int
) -> dict[str, float]:
    """Score the cluster head on whole images."""
    network.eval()
    images = Whole(manifest, config.evaluated_splits, config.views.size)
    found, labels = [], []
    for x, y in DataLoader(images, config.evaluate.batch, num_workers=workers):
        found.append(network.soft(network.backbone(x.to(device))).argmax(dim=1).cpu())
        labels.append(y)
    clusters, classes = torch.cat(found).numpy(), torch.cat(labels).numpy()
    known = classes >= 0
    if not known.any():
        raise InputError(f"{config.data.shards} has no labels: there is nothing to compare")
    result = scores(clusters[known], classes[known], config.model.cluster_counts[0])
    return {name: result[name] for name in SCORES}
