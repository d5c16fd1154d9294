"""A config, a network and a batch of random pictures, as small as a step of training takes them."""

from typing import Any

import numpy as np
import torch

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.images.views import draw_views
from ccscale.data.pairs import PairBatch
from ccscale.model.network import ContrastiveClustering

N, SIZE = 12, 32
TEMI = {
    "model": {"clusters": [5, 7], "heads": 2, "head_width": 6, "prototypes": 4, "head_temperature": 0.1},
    "loss": {"objective": "temi", "teacher_decay": 0.5},
}
"""Settings of `config_of`: heads with a teacher."""


def config_of(
    backbone: str,
    micro_batch: int | None,
    zero: int = 1,
    model: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    boost: dict[str, Any] | None = None,
    **train: Any,
) -> Config:
    return parse_config(
        {
            "seed": 3,
            "data": {"shards": "-"},
            "views": {"size": SIZE, "blur": 0.5, "blur_kernel": 3},
            "model": {"backbone": backbone, "clusters": 5, **(model or {})},
            "loss": loss or {},
            "stages": {"boost": boost or {}},
            "train": {
                "global_batch": N,
                "micro_batch": micro_batch,
                "zero": zero,
                "precision": "fp64",
                **train,
            },
        }
    )


def network_of(config: Config, seed: int = 0) -> ContrastiveClustering:
    torch.manual_seed(seed)
    network = ContrastiveClustering(config.model, config.views.size)
    network.begin_training(config.loss)
    return network


def batch_of(config: Config, step: int, rank: int = 0, world: int = 1) -> PairBatch:
    """The images of a step that are a rank's, with their views."""
    n, size = config.train.global_batch, config.views.size
    mine = slice(rank * n // world, (rank + 1) * n // world)
    images = np.random.default_rng(step).integers(0, 256, (2, n, size, size, 3), dtype=np.uint8)
    colour = draw_views(config.views, config.seed, 0, np.arange(n)).colour.part(mine)
    return PairBatch(step, torch.from_numpy(images[:, mine]), colour, (0, 0), (), np.arange(n)[mine])
