"""The plan of a run on some nodes: what each rank holds, sends and reads; what does not fit, and the remedy."""

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ccscale.config import Config
from ccscale.errors import InputError
from ccscale.features.store_config import open_run_store
from ccscale.plan.fit import Fits, check_division, largest_batch, largest_micro_batch
from ccscale.plan.network_cost import Network
from ccscale.plan.pace import Pace, measure_pace
from ccscale.plan.rank import RankPlan, passed_views
from ccscale.plan.reading import PlannedData, RunLoader, plan_loading, read_data

GPU_BYTES = 80 * 10**9  # where this machine has none


@dataclass(frozen=True)
class Plan:
    """The result of `make_plan`.

    Attributes
    ----------
    nodes, ranks_per_node
        Where it runs.
    rank
        One rank's memory and traffic.
    device
        cpu or cuda.
    device_bytes
        Memory that a rank has on its device.
    loading, reading
        What a rank loads, and of which data; None where these cannot be read from here.
    largest
        The largest global batch that fits; None where none does.
    remedies
        Settings that make a plan fit that does not.
    notes
        What was assumed, and what may not be meant.
    pace
        How fast it goes here; None where that was not asked for.
    """

    nodes: int
    ranks_per_node: int
    rank: RankPlan
    device: str
    device_bytes: int
    loading: RunLoader
    reading: PlannedData | None
    largest: int | None
    remedies: tuple[str, ...]
    notes: tuple[str, ...]
    pace: Pace | None = None

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self.nodes * self.ranks_per_node

    @property
    def fits(self) -> bool:
        """Whether a rank's memory is enough."""
        return self.rank.peak <= self.device_bytes

    def as_json(self) -> dict[str, Any]:
        """Return the plan as one JSON object; bytes where nothing else is said."""
        rank, config = self.rank, self.rank.config
        return {
            "nodes": self.nodes,
            "ranks_per_node": self.ranks_per_node,
            "ranks": self.world,
            "global_batch": config.train.global_batch,
            "micro_batch": config.train.micro_batch,
            "images_per_rank": config.train.global_batch // self.world,
            "parameters": rank.network.weights,
            "device": self.device,
            "memory": {
                part: dict(zip(rank.moments, numbers, strict=True)) for part, numbers in rank.memory.items()
            },
            "total": rank.totals,
            "peak": rank.peak,
            "available": self.device_bytes,
            "sent": [asdict(entry) for entry in rank.sent],
            "sent_by_collective": dict(rank.traffic),
            "checkpoint": rank.checkpoint,
            "lanes": config.lanes,
            "loader": asdict(self.loading),
            "data": None if self.reading is None else asdict(self.reading),
            "fits": self.fits,
            "largest_global_batch": self.largest,
            "remedies": list(self.remedies),
            "notes": list(self.notes),
            **({} if self.pace is None else {"pace": self.pace.as_json()}),
        }


def make_plan(
    config: Config,
    nodes: int,
    ranks_per_node: int,
    device_bytes: int | None = None,
    cpus: int | None = None,
    measure: bool = False,
) -> Plan:
    """Plan a run.

    Parameters
    ----------
    config
        The run's config.
    nodes, ranks_per_node
        Where it is to run.
    device_bytes
        Memory of each rank's device; by default that of this machine.
    cpus
        Cores of each rank; by default this machine's, shared by its ranks.
    measure
        Also take some steps here, as one process.

    Raises
    ------
    InputError
        If the run cannot be started there at all.
    """
    numbers = {
        "nodes": nodes,
        "gpus-per-node": ranks_per_node,
        "gpu-memory": device_bytes,
        "cpus-per-task": cpus,
    }
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise InputError(f"--{name} must be above 0")
    world = nodes * ranks_per_node
    if measure and world > 1:
        raise InputError("--measure runs steps on one rank: leave out --nodes and --gpus-per-node")
    width = None
    if config.data.features is not None:
        config, features = open_run_store(config)
        width = features.width
    check_division(config, world)
    notes: list[str] = []
    device, device_bytes = _device(config, ranks_per_node, device_bytes, notes)
    if cpus is None:
        cpus = max(1, len(os.sched_getaffinity(0)) // ranks_per_node)
        if config.data.workers is None and width is None:
            notes.append(f"cores of a rank, as on this machine: {cpus} (--cpus-per-task)")
    reading, why = read_data(config, world)
    if why is not None:
        notes.append(f"the data cannot be read from here, so no steps are told: {why}")
    if reading is not None and config.data.refresh is not None:
        notes.append(
            f"the data may grow (data.refresh): steps are told of the {reading.images:,} images of now"
        )
    if "cluster" in config.losses and config.train.global_batch < 2 * (
        most := max(config.model.cluster_counts)
    ):
        notes.append(
            f"a global batch of {config.train.global_batch} can hardly show {most} clusters; "
            "several times as many images work better"
        )

    network = Network(config, world, device, width)
    views = passed_views(config, world)
    here, there = network.measure(views), network.measure(2 * views)

    def at(other: Config) -> RankPlan:
        return RankPlan(other, world, here.scaled(there, passed_views(other, world)), device == "cuda")

    def fits(other: Config) -> bool:
        return at(other).peak <= device_bytes

    plan = Plan(
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        rank=at(config),
        device=device,
        device_bytes=device_bytes,
        loading=plan_loading(config, world, cpus, width or 0),
        reading=reading,
        largest=largest_batch(config, world, fits, None if reading is None else reading.smallest_phase),
        remedies=(),
        notes=tuple(notes),
    )
    if measure:
        plan = replace(plan, pace=measure_pace(config))
    return plan if plan.fits else replace(plan, remedies=_remedies(plan, fits))


def _remedies(plan: Plan, fits: Fits) -> tuple[str, ...]:
    found = []
    micro = largest_micro_batch(plan.rank.config, plan.world, fits)
    if micro is not None:
        found.append(f"train.micro_batch={micro}")
    if plan.largest is not None:
        found.append(f"train.global_batch={plan.largest}")
    return tuple(found)


def _device(
    config: Config, ranks_per_node: int, device_bytes: int | None, notes: list[str]
) -> tuple[str, int]:
    """Return the kind and memory of a rank's device; add a note on assumptions."""
    if config.train.device == "cpu":
        if device_bytes is None:
            host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            device_bytes = host // ranks_per_node
            notes.append("a rank is taken to have its share of this machine's memory")
        return "cpu", device_bytes
    if device_bytes is None:
        if torch.cuda.is_available():
            return "cuda", torch.cuda.get_device_properties(0).total_memory
        notes.append(f"there is no GPU here: one of {GPU_BYTES // 10**9} GB is assumed (--gpu-memory)")
        device_bytes = GPU_BYTES
    return "cuda", device_bytes
