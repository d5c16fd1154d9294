"""Tunes the block sizes of the fused kernels: the fastest on the device for a launch of that size.

They are timed on random rows before the first launch of a width, precision and size (the next power of two, at
most `MOST`), and cached while the process runs. Each is first compared with plainly computed sums of a few rows,
since a miscompiled kernel may be the fastest. So the choice affects only rounding.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ccscale.loss.kernels import prepared

MOST = 2**15  # rows and columns that are tried with at most: what is larger goes the same way
CHECKED = 512  # rows and columns whose sums are held to plain ones
TOLERANCES = {1: 5e-3, 2: 2e-5}  # how closely, by the parts of a number
Launch = Callable[..., Any]
tried: dict[tuple[str, int, int, int, int], list[tuple[float, dict[str, int]]]] = {}
"""Milliseconds of each choice, by (launch, parts, width, m, c)."""


def candidates(width: int, parts: int, pulls: bool) -> list[dict[str, int]]:
    """Return blocks worth a try, few: a compiler takes a second for each.

    Parameters
    ----------
    width
        Numbers in a row, a power of two.
    parts
        Of each number.
    pulls
        Whether a block of sums of rows is held as well.
    """
    if width > 256:
        shapes = [(64, 32, 8, 2), (64, 16, 8, 2)]
    elif width > 128:
        shapes = [(64, 64, 8, 2), (64, 32, 4, 2), (128, 64, 8, 2)]
    else:
        shapes = [(64, 64, 4, 3), (128, 64, 8, 2 if parts == 2 else 3)]
        shapes += [(64, 64, 4, 2)] if pulls and parts == 2 else [(128, 128, 8, 2)]
    names = "ROWS", "COLUMNS", "num_warps", "num_stages"
    return [dict(zip(names, shape, strict=True)) for shape in shapes]


def fastest(launch: Launch, device: torch.device, parts: int, width: int, m: int, c: int) -> dict[str, int]:
    """Return the blocks for a launch of m rows against c columns.

    Parameters
    ----------
    launch
        `fused.launch_sums` or `launch_pulls`.
    device, parts, width, m, c
        Of the prepared rows and columns.

    Raises
    ------
    RuntimeError
        If the device takes none of the candidates, or is right with none.
    """
    return _fastest(launch, device, parts, width, _about(m), _about(c))


def milliseconds(call: Callable[[], Any], times: int = 3) -> float:
    """Return the least time that a call takes on the current GPU, after one that is not counted."""
    call()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    marks[-1].synchronize()
    return min(before.elapsed_time(after) for before, after in pairwise(marks))


def _about(count: int) -> int:
    return int(min(MOST, max(128, 1 << (count - 1).bit_length())))


@cache
def _fastest(launch: Launch, device: torch.device, parts: int, width: int, m: int, c: int) -> dict[str, int]:
    right = _right(launch, device, parts, width)
    if device.type != "cuda":  # interpreted: there is no clock to choose by
        return right[0]
    times = tried[launch.__name__, parts, width, m, c] = []
    try:
        arguments, _ = trial(device, parts, width, m, c, launch.__name__ == "launch_pulls")
        with torch.cuda.device(device):
            times += [(milliseconds(partial(launch, *arguments, config)), config) for config in right]
    except torch.cuda.OutOfMemoryError:  # there is a step's memory beside
        return right[0]
    return min(times, key=lambda time: time[0])[1]


@cache
def _right(launch: Launch, device: torch.device, parts: int, width: int) -> list[dict[str, int]]:
    """Return the candidates that a device takes and is right with."""
    pulls = launch.__name__ == "launch_pulls"
    configs = candidates(width, parts, pulls)
    if device.type != "cuda":
        return configs
    arguments, expected = trial(device, parts, width, CHECKED, CHECKED, pulls)
    right, failure = [], "their sums are wrong"
    for config in configs:
        try:
            if error(launch(*arguments, config), expected) <= TOLERANCES[parts]:
                right.append(config)
        except Exception as refused:  # it does not fit this device
            failure = str(refused)
    if not right:
        raise RuntimeError(f"no blocks of rows suit this device ({failure})")
    return right


def trial(
    device: torch.device, parts: int, width: int, m: int, c: int, pulls: bool
) -> tuple[tuple[Any, ...], Tensor]:
    """Return what a launch is tried with, and what it is to find of the first rows, in float64."""
    generator = torch.Generator(device).manual_seed(0)
    rows, columns = (
        prepared(torch.randn(count, width, generator=generator, device=device), width**-0.5, half=parts == 1)
        for count in (m, c)
    )
    u, v = rows[:, :CHECKED].double().sum(dim=0), columns[:, :c].double().sum(dim=0)
    e = torch.exp2(u @ v.T)
    weights = [torch.ones(count, device=device) for count in (m, c)] if pulls else []
    return (rows, columns, *weights, (m, c), None, None, False), 2 * e @ v if pulls else e.sum(dim=1)


def error(found: Tensor, expected: Tensor) -> float:
    """Return the largest error of the first rows in what a launch has found, of the largest number."""
    rows = found.sum(dim=0)[: len(expected)].double()
    return float((rows - expected).abs().max() / expected.abs().max())
