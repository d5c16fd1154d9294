"""Simulates a run on many ranks: the timeline of a step at each size, from the parts of a step on one rank.

The messages of a rank are those of `RankPlan.sent`. When they are sent, and what is computed meanwhile:

    batch norm's statistics, a call a layer    the network waits for each
    the cluster loss's sums                    behind the instance loss
    the instance loss's rows                   behind the rank's own block; in a ring behind each rank's block
    its logsumexps, norm of the gradient       waited for
    gradients                                  waited for under each ZeRO stage: DeepSpeed sends them after the
                                               backward pass (0, 1), or within it on the stream that computes (2)
    parameters under ZeRO 1 and 2              waited for after the optimizer
    agreement at the end, by gloo              on a GPU behind the step, for the host is ahead of it

Each rank keeps its number of images: the global batch grows with the ranks, and with it the instance loss's work, a
rank's rows against all ranks' rows.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ccscale.config import Config
from ccscale.data.images.views import VIEWS
from ccscale.engine.build import weight_dtype
from ccscale.errors import InputError
from ccscale.features.store_config import open_run_store
from ccscale.model.global_norm import GATHERED
from ccscale.plan.links import Links
from ccscale.plan.network_cost import Network, NetworkCost
from ccscale.plan.rank import RankPlan, Sent
from ccscale.plan.step_parts import StepParts, scaled_config
from ccscale.plan.step_timeline import COMPUTE, StepTimeline

SMALL_BUCKET = 25 * 2**20  # bytes, as torch's DDP has them
AGREEMENT = "agreement at the end"
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Size:
    """A step on so many ranks.

    Attributes
    ----------
    ranks, nodes, global_batch
        Where, and of how many images.
    seconds
        Of the step.
    efficiency
        Of a rank's images a second, what it makes alone being 1.
    if_hidden
        The same if gradients travelled behind the backward pass, in buckets of 25 MiB.
    host
        Seconds that a GPU's host takes for it, the agreement with it; 0 on a CPU.
    sent
        What is sent.
    timeline
        What is computed and sent when.
    """

    ranks: int
    nodes: int
    global_batch: int
    seconds: float
    efficiency: float
    if_hidden: float
    host: float
    sent: tuple[Sent, ...]
    timeline: StepTimeline

    @property
    def hidden(self) -> float:
        """Seconds that something travels while the rank computes."""
        timeline = self.timeline
        return sum(timeline.sent.values()) - sum(timeline.waited.values())

    @property
    def losses(self) -> float:
        """Seconds that the losses compute."""
        spans = (span for span in self.timeline.spans if span.lane == COMPUTE)
        return sum(span.end - span.begin for span in spans if span.what.endswith("loss"))

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        timeline = self.timeline
        return {
            **{name: getattr(self, name) for name in ("ranks", "nodes", "global_batch", "seconds")},
            **{name: getattr(self, name) for name in ("efficiency", "if_hidden", "losses", "hidden", "host")},
            "sent": [asdict(entry) for entry in self.sent],
            "travels": dict(timeline.sent),
            "waited": dict(timeline.waited),
            "timeline": [span._asdict() for span in timeline.spans],
        }


def simulate(config: Config, parts: StepParts, links: Links, sizes: Sequence[int] = SIZES) -> list[Size]:
    """Simulate a step of a run at each size.

    Parameters
    ----------
    config
        The run's; its global batch does not matter.
    parts
        Of a step of one rank.
    links
        What connects the ranks.
    sizes
        Numbers of ranks.

    Raises
    ------
    InputError
        If a size does not fill its machines.
    """
    for ranks in sizes:
        if ranks > links.per_node and ranks % links.per_node:
            raise InputError(f"--sizes: {ranks} ranks do not fill machines of {links.per_node}")
    count = config.micro_batches
    if parts.images % count:
        raise InputError(f"{parts.images} images of a GPU are not to be cut into {count} micro-batches")
    width = None
    if config.data.features is not None:
        config, features = open_run_store(config)
        width = features.width
    # What batch norm sends does not depend on the number of images.
    few, many = (
        Network(scaled_config(config, 4), ranks, "cpu", width).measure(4) for ranks in (2, GATHERED + 1)
    )
    alone = _Step(config, parts, links, (), 1, hide=False).take().now
    found = []
    for ranks in sizes:
        of_ranks = scaled_config(config, parts.images * ranks)
        sent = _sent(of_ranks, few if ranks <= GATHERED else many, ranks, parts.cuda)
        first, second = (_Step(of_ranks, parts, links, sent, ranks, hide) for hide in (False, True))
        timeline, hidden = first.take(), second.take().now
        host = parts.host + sum(first.seconds_of(AGREEMENT)) if parts.cuda else 0.0
        seconds, best = max(timeline.now, host), max(hidden, host)
        nodes, batch = -(-ranks // links.per_node), of_ranks.train.global_batch
        efficiency = alone / seconds, alone / best
        found.append(Size(ranks, nodes, batch, seconds, *efficiency, host, sent, timeline))
    return found


def _sent(config: Config, network: NetworkCost, ranks: int, cuda: bool) -> tuple[Sent, ...]:
    """Return what a rank sends in a step, of which what is gathered by the network is that of two ranks."""
    gathered, again = (size // 2 * ranks for size in (network.gathered, network.gathered_again))
    return RankPlan(config, ranks, replace(network, gathered=gathered, gathered_again=again), cuda).sent


class _Step:
    """Puts a step together; what is sent is taken out of `sent` call by call."""

    def __init__(
        self, config: Config, parts: StepParts, links: Links, sent: Sequence[Sent], ranks: int, hide: bool
    ) -> None:
        self._config, self._parts, self._links, self._ranks, self._hide = config, parts, links, ranks, hide
        self._sent = {(entry.what, entry.collective): entry for entry in sent}
        self.timeline = StepTimeline()

    def take(self) -> StepTimeline:
        parts, timeline, zero = self._parts, self.timeline, self._config.train.zero
        timeline.work("views", parts.views)
        gathers = self.seconds_of("batch norm, forward")
        for seconds in gathers:
            timeline.work("forward", parts.forward / len(gathers))
            timeline.send("batch norm, forward", seconds)
        if not gathers:
            timeline.work("forward", parts.forward)
        self._losses()
        self._backward()
        for what in ("norm of the gradient", "whether it is finite"):
            self._send_all(what)
        timeline.work("optimizer", parts.optimizer / (self._ranks if zero else 1))
        self._send_all("parameters", "all_gather")
        if not parts.cuda:
            self._send_all(AGREEMENT)
        return timeline

    def _losses(self) -> None:
        parts, timeline, what = self._parts, self.timeline, "cluster loss"
        grows = self._columns_grow()
        timeline.work(what, parts.cluster_forward * grows)
        ends = [
            timeline.begin(what, seconds)
            for collective in ("all_gather", "all_reduce")
            for seconds in self.seconds_of(what, collective)
        ]
        self._instances()
        for end in ends:
            timeline.wait(what, end)
        timeline.work(what, parts.cluster_backward * grows)

    def _instances(self) -> None:
        parts, timeline, what, ranks = self._parts, self.timeline, "instance loss", self._ranks
        both = (parts.instance_forward, parts.block_forward), (parts.instance_backward, parts.block_backward)
        if (what, "send") in self._sent:
            message, *_ = self.seconds_of(what, "send")
            for fixed, block in both:
                timeline.work(what, fixed)
                for _ in range(ranks - 1):
                    end = timeline.begin(what, message)
                    timeline.work(what, block)
                    timeline.wait(what, end)
                timeline.work(what, block)
                if fixed is parts.instance_forward:
                    self._send_all(what, "all_gather")
            return
        rows, logsumexps = self._rows_and_logsumexps()
        end = timeline.begin(what, rows)
        (fixed, block), (fixed_back, block_back) = both
        timeline.work(what, fixed + block)
        timeline.wait(what, end)
        timeline.work(what, block * (ranks - 1))
        timeline.send(what, logsumexps)
        timeline.work(what, fixed_back + block_back * ranks)

    def _rows_and_logsumexps(self) -> tuple[float, float]:
        """Return how long the gather of all ranks' rows takes, and that of their logsumexps."""
        entry = self._sent.get(("instance loss", "all_gather"))
        if entry is None:
            return 0.0, 0.0
        width = weight_dtype(self._config.train).itemsize
        small = self._ranks * (VIEWS * self._parts.images + 1) * width
        sizes = entry.bytes - small, small
        rows, logsumexps = (self._links.seconds("all_gather", size, self._ranks) for size in sizes)
        return rows, logsumexps

    def _columns_grow(self) -> float:
        """Return how many times a rank's own work of the cluster loss it is: where rows are gathered, of all."""
        least = 2 * max(self._config.model.cluster_counts) / self._parts.images
        return max(1.0, min(float(self._ranks), least))

    def _backward(self) -> None:
        """The network's way back; gradients go in buckets that are filled as it goes, or after it."""
        parts, timeline, zero = self._parts, self.timeline, self._config.train.zero
        sums = self.seconds_of("batch norm, backward")
        buckets = self._small_buckets() if self._hide else self.seconds_of("gradients")
        pieces, ends, gone = max(1, len(sums), len(buckets)), list[float](), 0
        for piece in range(pieces):
            timeline.work("backward", parts.backward / pieces)
            for seconds in sums[piece * len(sums) // pieces : (piece + 1) * len(sums) // pieces]:
                timeline.send("batch norm, backward", seconds)
            full = (piece + 1) * len(buckets) // pieces
            if self._hide:
                ends += [timeline.begin("gradients", seconds) for seconds in buckets[gone:full]]
                gone = full
            elif zero == 2:
                for seconds in buckets[gone:full]:
                    timeline.send("gradients", seconds)
                gone = full
        for seconds in buckets[gone:]:
            timeline.send("gradients", seconds)
        for end in ends:
            timeline.wait("gradients", end)

    def _small_buckets(self) -> list[float]:
        """Return the gradients' calls as if they went in buckets that a part of the backward pass fills."""
        calls = list[float]()
        if (entry := self._sent.get(("gradients", "all_reduce"))) is not None:
            count = math.ceil(entry.bytes / SMALL_BUCKET)
            calls = [self._links.seconds("all_reduce", entry.bytes / count, self._ranks)] * count
        return calls

    def _send_all(self, what: str, collective: str = "all_reduce") -> None:
        for seconds in self.seconds_of(what, collective):
            self.timeline.send(what, seconds)

    def seconds_of(self, what: str, collective: str | None = None) -> list[float]:
        """Return the seconds of each collective call for a purpose, by kind of collective."""
        links = self._links.by_gloo if what == AGREEMENT else self._links
        return [
            links.seconds(entry.collective, entry.bytes / entry.calls, self._ranks)
            for entry in self._sent.values()
            if entry.what == what and collective in (None, entry.collective)
            for _ in range(entry.calls)
        ]
