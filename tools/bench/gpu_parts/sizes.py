"""The step that is measured: ResNet-34, 224 px, bf16, a batch of 1,024; in a dry run the smallest."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.images.views import draw_views
from ccscale.data.pairs import PairBatch
from ccscale.engine.build import build_engine
from ccscale.model.network import ContrastiveClustering
from ccscale.train.step import Stepper


def config_of(device: torch.device, dry: bool, **train: Any) -> Config:
    """Return the config, with some keys of ``train`` as given."""
    size, batch, backbone = (32, 8, "test_resnet") if dry else (224, 1024, "resnet34")
    return parse_config(
        {
            "run": "-",
            "data": {"shards": "-"},
            "views": {"size": size, "blur": 0.5, "blur_kernel": 3 if dry else 23},
            "model": {"backbone": backbone, "clusters": 10},
            "train": {"global_batch": batch, "precision": "bf16", "device": device.type, **train},
        }
    )


def batch_of(config: Config, device: torch.device) -> PairBatch:
    """Return a batch of random pictures that is on the device."""
    n, size = config.train.global_batch, config.views.size
    images = torch.randint(0, 256, (2, n, size, size, 3), dtype=torch.uint8)
    colour = draw_views(config.views, 0, 0, np.arange(n)).colour
    batch = PairBatch(0, images, colour, (0, 0), (), np.arange(n))
    return replace(batch, images=images.to(device))


def stepper_of(config: Config, device: torch.device) -> Stepper:
    """Return what takes the steps."""
    return Stepper(config, build_engine(config, network_of(config), device), device)


def network_of(config: Config) -> ContrastiveClustering:
    """Return the network, the same each time."""
    torch.manual_seed(0)
    return ContrastiveClustering(config.model, config.views.size)
