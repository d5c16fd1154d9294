"""Runs a function on several ranks: real processes that talk over gloo.

They are copies of a process that has imported what most of them need, once for all tests of a pytest worker: the
imports take several seconds, a rank of its own often less.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
import torch.multiprocessing as mp
from lives import server, take_environment


def run_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(rank, *arguments)`` on `world` ranks and return what each returned.

    `function` must be importable (at the top of a test module). A rank that fails ends the test with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (world, folder, dict(os.environ), function, arguments)
        mp.start_processes(_rank, given, world, start_method=server().get_start_method())
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(
    rank: int,
    world: int,
    folder: str,
    environment: dict[str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    place = {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    take_environment(environment | place)
    store = torch_dist.FileStore(f"{folder}/store", world)
    torch_dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        torch.save(function(rank, *arguments), f"{folder}/{rank}.pt")
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        torch_dist.destroy_process_group()
    # As `ccscale.cli.entry` does: what gloo's threads still hold must not meet an interpreter that is gone.
    sys.stdout.flush()
    os._exit(0)
