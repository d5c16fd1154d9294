"""Steps of real ranks over limited links beside those on paper: `ccscale plan --cluster` held to what it says."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as torch_dist
import torch.multiprocessing as mp
from limited_links import LimitedLinks
from lives import server, take_environment

from ccscale.config import Config
from ccscale.data.images.views import draw_views
from ccscale.data.pairs import PairBatch
from ccscale.engine.build import build_engine
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.links import Links
from ccscale.plan.scaling import simulate
from ccscale.plan.step_parts import StepParts, parts_of_step, scaled_config
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.agreement import Agreement
from ccscale.train.step import Stepper

PAYLOAD = 1448 / 1514  # of a frame, what TCP carries
LARGE = 2**20  # numbers: a sum of 4 MB shows the links' speed
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Comparison:
    """Seconds of a step, real and on paper.

    Attributes
    ----------
    free
        Of a real one without a limit.
    stretch
        How many times as long computing takes there as each rank has measured alone.
    real, paper
        At each limit.
    """

    free: float
    stretch: float
    real: tuple[float, ...]
    paper: tuple[float, ...]


def compare(config: Config, world: int, rates: Sequence[float], steps: int = 5) -> Comparison:
    """Take steps over links without a limit and at some, and simulate those at limits.

    The parts are measured by each rank alone, and stretched until the step without a limit is as long on paper as
    it is: ranks share cores. Latency and speed of the links without a limit are measured by sums; a limit is what
    `tc` was told, and nothing of it is measured.

    Parameters
    ----------
    config
        The run's; a rank has its global batch.
    world
        Number of ranks.
    rates
        Bits a second that a rank may send.
    steps
        So many are taken at each.
    """
    with tempfile.TemporaryDirectory() as folder, LimitedLinks(world) as links:
        given = (world, folder, dict(os.environ), config, links, rates, steps)
        mp.start_processes(_rank, given, world, start_method=server().get_start_method())
        found = [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]
    parts, hop, speed, (free, *real) = found[0]

    def on_paper(stretch: float, bandwidth: float) -> float:
        links = Links(per_node=1, card=bandwidth, inside=speed, cards=1, hop_gloo=hop).by_gloo
        longer = {name: time * stretch for name, time in asdict(parts).items() if isinstance(time, float)}
        (size,) = simulate(config, replace(parts, **longer), links, [world])
        return size.seconds

    stretch, step = 1.0, on_paper(1.0, speed)
    for _ in range(5):
        stretch *= 1 + (free - step) / step
        step = on_paper(stretch, speed)
    paper = [on_paper(stretch, rate / 8 * PAYLOAD) for rate in rates]
    return Comparison(free, stretch, tuple(real), tuple(paper))


def _rank(
    rank: int,
    world: int,
    folder: str,
    environment: dict[str, str],
    config: Config,
    links: LimitedLinks,
    rates: Sequence[float],
    steps: int,
) -> None:
    torch.set_num_threads(1)
    take_environment(environment)
    images = config.train.global_batch
    with process_group(RankEnvironment(), CPU):
        engine = build_engine(config, _network(config), CPU)
        parts = parts_of_step(config, engine, _batch(config, images), CPU)
    place = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank}
    take_environment(environment | {name: str(number) for name, number in place.items()})
    links.enter(rank)
    store = torch_dist.FileStore(f"{folder}/store", world)
    torch_dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    hop = _shortest(lambda: torch_dist.all_reduce(torch.zeros(1)), 20) / (2 * (world - 1))
    large = _shortest(lambda: torch_dist.all_reduce(torch.zeros(LARGE)), 5)
    speed = 2 * (world - 1) / world * 4 * LARGE / large
    config = scaled_config(config, images * world)
    stepper = Stepper(config, build_engine(config, _network(config), CPU), CPU)
    batch, real = _batch(config, images), []
    stepper.take(batch)
    for rate in (None, *rates):
        torch_dist.barrier()
        if rank == 0 and rate is not None:
            links.limit(rate)
        torch_dist.barrier()
        real.append(_shortest(lambda: _step(stepper, batch), steps))
    told: tuple[StepParts, float, float, list[float]] = (parts, hop, speed, real)
    torch.save(told, f"{folder}/{rank}.pt")
    torch_dist.barrier()
    torch_dist.destroy_process_group()
    os._exit(0)


def _step(stepper: Stepper, batch: PairBatch) -> None:
    """Take a step, and agree on nothing as the loop does at its end."""
    stepper.take(batch)
    Agreement(*[0] * len(Agreement._fields)).over_ranks()


def _shortest(call: Callable[[], object], times: int) -> float:
    """Return the seconds of a call, the shortest of some, each begun by all ranks together."""
    found = []
    for _ in range(times):
        torch_dist.barrier()
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return min(found)


def _network(config: Config) -> ContrastiveClustering:
    torch.manual_seed(0)
    network = ContrastiveClustering(config.model, config.views.size)
    network.begin_training(config.loss)
    return network


def _batch(config: Config, images: int) -> PairBatch:
    """Return random pictures, with the views of a rank's images."""
    size = config.views.size
    pixels = torch.randint(0, 256, (2, images, size, size, 3), dtype=torch.uint8)
    colour = draw_views(config.views, config.seed, 0, np.arange(images)).colour
    return PairBatch(0, pixels, colour, (0, 0), (), np.arange(images))
