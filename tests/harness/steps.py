"""A config and a batch of random pictures, as small as a step of training takes them."""

from typing import Any

import numpy as np
import torch

from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.images.views import draw_views
from ccscale.data.pairs import PairBatch

N, SIZE = 12, 32


def config_of(
    backbone: str,
    micro_batch: int | None,
    zero: int = 1,
    model: dict[str, float] | None = None,
    **train: Any,
) -> Config:
    return parse_config(
        {
            "seed": 3,
            "data": {"shards": "-"},
            "views": {"size": SIZE, "blur": 0.5, "blur_kernel": 3},
            "model": {"backbone": backbone, "clusters": 5, **(model or {})},
            "train": {
                "global_batch": N,
                "micro_batch": micro_batch,
                "zero": zero,
                "precision": "fp64",
                **train,
            },
        }
    )


def batch_of(config: Config, step: int, mine: slice) -> PairBatch:
    """The images of a step that are this rank's, with their views."""
    images = np.random.default_rng(step).integers(0, 256, (2, N, SIZE, SIZE, 3), dtype=np.uint8)
    colour = draw_views(config.views, config.seed, 0, np.arange(N)).colour.part(mine)
    return PairBatch(step, torch.from_numpy(images[:, mine]), colour, (0, 0), ())
