"""Which numbers divide each other, and the nearest that do; the largest batch that fits. Pure."""

import math
from collections.abc import Callable, Iterator

from ccscale.config import MAX_LANES, Config
from ccscale.config.divisors import divisors, nearest_divisors
from ccscale.errors import InputError

Fits = Callable[[Config], bool]


def with_batch(config: Config, global_batch: int, micro_batch: int | None) -> Config:
    """Return the config with other batches; whether these are valid is the caller's affair."""
    train = config.train.model_copy(update={"global_batch": global_batch, "micro_batch": micro_batch})
    return config.model_copy(update={"train": train})


def check_division(config: Config, world: int) -> None:
    """Check that so many ranks can share the lanes and the batches of a run.

    Raises
    ------
    InputError
        With the nearest numbers that do.
    """
    batch, micro, lanes = config.train.global_batch, config.train.micro_batch, config.lanes
    if lanes % world:
        ranks = " or ".join(map(str, nearest_divisors(lanes, world)))
        raise InputError(
            f"{world} ranks do not divide the {lanes} lanes of this run; the nearest that do are {ranks}, "
            f"or keep {world} ranks and set {_other_lanes(config, world)}"
        )
    if micro is not None and micro % world:
        fitting = [m for m in divisors(batch) if m % world == 0]
        near = sorted(
            {*[m for m in fitting if m < micro][-1:], *[m for m in fitting if m > micro][:1]},
        )
        raise InputError(
            f"{world} ranks do not divide train.micro_batch {micro}; the nearest that they divide are "
            + " and ".join(map(str, near))
        )


def largest_batch(config: Config, world: int, fits: Fits, most: int | None = None) -> int | None:
    """Return the largest global batch, up to `most`, that fits; None where none does.

    One that keeps the config's lanes is preferred: it is found in coarser steps, and mixes the data as well.
    """
    micro = config.train.micro_batch

    def search(unit: int) -> int | None:
        limit = (most or 2**31) // unit
        units = _largest(lambda units: fits(with_batch(config, units * unit, micro)), limit)
        multiples = (units * unit for units in range(units, 0, -1))
        return next((b for b in multiples if with_batch(config, b, micro).lanes % world == 0), None)

    coarse, fine = (math.lcm(unit, micro or 1) for unit in (config.lanes, config.data.lanes or world))
    return search(coarse) or search(fine)


def largest_micro_batch(config: Config, world: int, fits: Fits) -> int | None:
    """Return the largest micro-batch of the config's global batch that fits; None where none does."""
    batch = config.train.global_batch
    for micro in reversed(divisors(batch)[:-1]):
        if micro % world == 0 and micro >= 2 and fits(with_batch(config, batch, micro)):
            return micro
    return None


def _largest(holds: Callable[[int], bool], limit: int) -> int:
    """Return the largest number from 1 to `limit` that something holds for which holds for all below; 0: none."""
    low, high = 0, 1
    while high <= limit and holds(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _other_lanes(config: Config, world: int) -> str:
    """Name the nearest setting with which `world` ranks can run."""
    batch = config.train.global_batch
    if config.data.lanes is not None or world > MAX_LANES:
        lanes = config.data.lanes or MAX_LANES
        near = round(lanes / world) or 1
        multiple = near * world
        if batch % multiple == 0:
            return f"data.lanes={multiple}"
        return f"data.lanes={multiple} with train.global_batch={(round(batch / multiple) or 1) * multiple}"
    below = next(_batches(config, world, -1), None)
    above = next(_batches(config, world, 1), None)
    return " or ".join(f"train.global_batch={found}" for found in (below, above) if found is not None)


def _batches(config: Config, world: int, direction: int) -> Iterator[int]:
    """Yield global batches from the config's on, downwards or upwards, whose lanes `world` divides."""
    batch = config.train.global_batch // world * world
    for found in range(
        batch + (world if direction > 0 else 0), batch + direction * 1000 * world, direction * world
    ):
        if found >= max(2, world) and with_batch(config, found, None).lanes % world == 0:
            yield found
