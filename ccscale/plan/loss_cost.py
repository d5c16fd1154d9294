"""What the two losses take of a rank: memory beside their inputs, and what is sent. Pure: from shapes alone.

It follows `loss/instance.py`, `loss/cluster.py` and `loss/tiles.py` tensor by tensor; the tests hold it against
what these were measured to take. Symbols: n images and m = 2n rows a rank, W ranks, N = nW, K clusters, d numbers
in an embedding, e bytes in a number, T the side of a tile.
"""

from collections import Counter
from dataclasses import dataclass

from ccscale.loss.cluster import STRIP
from ccscale.loss.tiles import CPU_TILE, GPU_TILE, SAFE


@dataclass(frozen=True)
class LossCost:
    """Bytes of one loss on one rank; the inputs are not counted.

    Attributes
    ----------
    begun
        What is held from its beginning on, while it waits for the other ranks.
    forward, backward
        The most that is held in each pass.
    kept
        What is held from the forward pass to the backward pass.
    gradient
        The gradient to the inputs.
    sent
        Payload by collective: of a gather what comes out, of a sum what goes in, of a message the message.
    """

    begun: int
    forward: int
    kept: int
    backward: int
    gradient: int
    sent: Counter[str]

    @property
    def peak(self) -> int:
        """The most that is held at any moment."""
        return max(self.forward, self.backward)


def instance_cost(
    n: int, world: int, d: int, temperature: float, ring_bytes: int, cuda: bool, e: int = 4
) -> LossCost:
    """Return the cost of `loss.instance_loss` on n images a rank.

    ::

        kept       Z of this rank, m d, and of all, W m d, where it is gathered; W (m + 1) sums
        forward    Z; scaled rows, m d; a tile T² and another rank's scaled rows, m d; later two of m d
        backward   kept; scaled rows and pulls, 2 m d; two tiles (`_tiles`) and m d
        ring       two ranks' rows that are under way, 2 m d, in place of W m d
        sent       gathered: W m d + W (m + 1)      in a ring: 2 (W − 1) m d + W (m + 1)
    """
    m = 2 * n
    rows, sums = m * d * e, world * (m + 1) * e
    ring = world > 1 and world * rows > ring_bytes
    gathered = world * rows if world > 1 and not ring else 0
    under_way = min(world - 1, 2) * rows if ring else 0
    others = under_way + (rows if world > 1 else 0)
    tile, own_tiles, other_tiles = _tiles(m, temperature, cuda, e)
    kept = rows + gathered + sums
    forward = 2 * rows + gathered + max(tile + others, 2 * rows + sums)
    backward = kept + 2 * rows + max(own_tiles + under_way, other_tiles + others, rows)
    sent: Counter[str] = Counter()
    if world > 1:
        sent["all_gather"] = gathered + sums
    if ring:
        sent["send"] = 2 * (world - 1) * rows
    return LossCost(rows + gathered, forward, kept, backward, rows, sent)


def cluster_cost(n: int, world: int, k: int, temperature: float, cuda: bool, e: int = 4) -> LossCost:
    """Return the cost of `loss.cluster_loss` on n images a rank.

    From the products of columns, where N is at least 2K; a strip is a part of the 2K x 2K, up to STRIP numbers::

        kept       C, 2Kn; products and column sums, 4K² + 2K
        forward    kept; the products once more while the sums are put below them, or two strips
        backward   kept; unit columns and pulls, 4Kn; four strips, or two and its columns, or the last two and 4Kn
        sent       4K² + 2K

    From gathered columns otherwise::

        begun      C, 2Kn; gathered from all, 2KN
        forward    begun; unit columns, plain and scaled, 4KN; a tile
        kept       unit columns, 2KN
        backward   kept; scaled unit columns and pulls, 4KN; two tiles, or 2KN; or without the scaled ones 4Kn
        sent       2KN
    """
    columns, images = 2 * k, n * world
    own = columns * n * e
    sent: Counter[str] = Counter()
    if images >= columns:
        products = (columns + 1) * columns * e
        rows = min(columns, max(1, STRIP // columns))
        last_rows = columns - (columns - 1) // rows * rows
        strip, last = rows * columns * e, last_rows * columns * e
        kept = own + products
        forward = kept + max(products, 2 * strip)
        backward = kept + 2 * own + max(4 * strip, 2 * strip + n * rows * e, 2 * last + 2 * own)
        if world > 1:
            sent["all_reduce"] = products
        return LossCost(kept, forward, kept, backward, own, sent)
    everyone = columns * images * e
    begun = own + (everyone if world > 1 else 0)
    tile, tiles, _ = _tiles(columns, temperature, cuda, e)
    forward = begun + 2 * everyone + tile
    backward = 2 * everyone + max(everyone + max(tiles, everyone), 2 * own)
    if world > 1:
        sent["all_gather"] = everyone
    return LossCost(begun, forward, everyone, backward, own, sent)


def step_cost(instance: LossCost, cluster: LossCost) -> LossCost:
    """Return the cost of a step's two losses together, in the order in which `train/step.py` takes them.

    The cluster loss is begun, the instance loss is computed meanwhile, the cluster loss is finished; backwards the
    cluster loss comes first.
    """
    forward = max(cluster.begun + instance.forward, instance.kept + cluster.forward)
    backward = max(instance.kept + cluster.backward, cluster.gradient + instance.backward)
    return LossCost(
        instance.begun + cluster.begun,
        forward,
        instance.kept + cluster.kept,
        backward,
        instance.gradient + cluster.gradient,
        instance.sent + cluster.sent,
    )


def _tiles(rows: int, temperature: float, cuda: bool, e: int) -> tuple[int, int, int]:
    """Return bytes of a tile; of those held at once going backward over a rank's own rows; and over others' rows.

    These are two, a tile and its weights' factors. Where similarities are too large for that, three: the tile, its
    difference from a logsumexp, and the weights; and from the second tile of the own rows on the weights before.
    """
    side = min(GPU_TILE if cuda else CPU_TILE, rows)
    tile = side**2 * e
    if 1 / temperature <= SAFE:
        return tile, 2 * tile, 2 * tile
    return tile, (4 if rows > side else 3) * tile, 3 * tile
