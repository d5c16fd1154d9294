"""Memory that is freed stays with the process while it computes on a CPU: as the kernel counts it."""

import os
import platform
from pathlib import Path

import pytest
import torch
from harness.ranks import run_ranks

from ccscale.heap import give_back, keep_freed
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

MIB = 1 << 20


def resident() -> float:
    """Return the MiB of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB


def stays() -> bool:
    """Tell whether 256 MiB that were filled and freed are still there."""
    before = resident()
    torch.ones(256 * MIB, dtype=torch.uint8)
    return resident() - before > 128


def seen_on_rank(rank: int) -> list[bool]:
    seen = [stays()]
    with keep_freed() as kept:
        seen += [kept, stays()]
        give_back()  # as a loader's worker does
        seen.append(stays())
    with keep_freed(False) as kept:
        seen += [kept, stays()]
    os.environ["MALLOC_TRIM_THRESHOLD_"] = "131072"  # a user's own choice
    with keep_freed() as kept:
        return [*seen, kept]


def test_it_is_kept_for_so_long() -> None:
    assert run_ranks(1, seen_on_rank) == [[False, True, True, False, False, False, False]]


def in_a_process_group(rank: int, device: str) -> list[bool]:
    torch.distributed.destroy_process_group()
    with process_group(RankEnvironment(), torch.device(device)):
        seen = [stays()]
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    return [*seen, stays()]


def test_while_the_ranks_compute_on_a_cpu() -> None:
    assert run_ranks(1, in_a_process_group, "cpu") == [[True, False]]
