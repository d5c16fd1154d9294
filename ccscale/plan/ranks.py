"""Ranks that do not exist: this process is rank 0 of any number, and what it sends goes nowhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as torch_dist
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def fake_ranks(world: int) -> Iterator[None]:
    """Be rank 0 of `world` for the length of the context: collectives allocate as ever, and nothing is sent."""
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    torch_dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        yield
    finally:
        torch_dist.destroy_process_group()
