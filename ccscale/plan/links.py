"""The duration of a collective between many ranks, from latency and bandwidth. Pure functions.

Ranks form a ring, machine by machine. With S the payload (of a gather, its output), B the bandwidth of a rank's
slowest link, h the sum of the latencies of all hops of the ring, c the cost of a call::

    gather     c + (W − 1)/W S/B + h
    sum        c + min( 2 (W − 1)/W S/B + 2 h,   2 S/B + 2 h' )     h' along a tree: log2 of the machines, not all
    message    c + S/B' + a hop                                     B' of one network card

NCCL uses the better of ring and tree for sums, and a ring for gathers; gloo uses rings. NCCL builds as many rings
as a machine has network cards, each through another card: between machines, B is that of all cards together, but
at most that of a GPU within the machine.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Links:
    """What connects the ranks; the defaults are eight GPUs with NVLink and a card of 400 Gb/s each in a machine.

    Attributes
    ----------
    per_node
        GPUs, thus ranks, of a machine.
    inside, card
        Bytes a second, each way: of a GPU to the others of its machine; of a network card.
    cards
        Network cards of a machine.
    call, hop_inside, hop_between, hop_gloo
        Seconds: of a collective on a GPU before anything is sent; from GPU to GPU in a machine, and between two;
        from process to process by TCP, as gloo sends.
    trees
        Whether sums may go along a tree.
    """

    per_node: int = 8
    inside: float = 450e9
    card: float = 50e9
    cards: int = 8
    call: float = 10e-6
    hop_inside: float = 1e-6
    hop_between: float = 5e-6
    hop_gloo: float = 50e-6
    trees: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return them as a JSON object."""
        return asdict(self)

    @property
    def by_gloo(self) -> "Links":
        """The same links as gloo uses them."""
        return replace(
            self, call=self.hop_gloo, hop_inside=self.hop_gloo, hop_between=self.hop_gloo, trees=False
        )

    def seconds(self, collective: str, size: float, world: int) -> float:
        """Return how long a collective takes.

        Parameters
        ----------
        collective
            ``all_gather``, ``all_reduce`` or ``send``.
        size
            Its payload in bytes; of a gather what comes out.
        world
            Number of ranks, machine by machine.
        """
        if world == 1:
            return 0.0
        nodes = math.ceil(world / self.per_node)
        if collective == "send":
            alone = (self.inside, self.hop_inside) if nodes == 1 else (self.card, self.hop_between)
            return self.call + size / alone[0] + alone[1]
        bandwidth = self.inside if nodes == 1 else min(self.inside, self.cards * self.card)
        between = nodes if nodes > 1 else 0
        once = (world - 1) / world * size / bandwidth
        once += between * self.hop_between + max(0, world - 1 - between) * self.hop_inside
        if collective == "all_gather":
            return self.call + once
        up = (min(world, self.per_node) - 1) * self.hop_inside + math.ceil(
            math.log2(nodes)
        ) * self.hop_between
        tree = 2 * size / bandwidth + 2 * up
        return self.call + (min(2 * once, tree) if self.trees else 2 * once)
