"""Follows a growing folder of shards, on all ranks together."""

import time
from collections.abc import Iterator

from ccscale import dist
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.shard_watch import POLL_SECONDS, ShardWatch
from ccscale.preempt import StopRequest


def follow_shards(watch: ShardWatch, request: StopRequest, idle: float | None) -> Iterator[Manifest]:
    """Yield shards as they appear, until a request, or until none was new for `idle` seconds.

    Raises
    ------
    InputError
        If there is no folder to look at.
    """
    dist.on_rank_zero(watch.check)
    new = time.monotonic()
    while True:
        found = dist.on_rank_zero(watch.poll)
        if found is not None:
            yield found
            new = time.monotonic()
        # The first rank's clock counts; a signal counts whichever rank it comes to.
        over = idle is not None and time.monotonic() - new >= idle
        if dist.sum_integers([bool(request) or (over and dist.rank() == 0)])[0]:
            return
        if found is None:
            request.wait(POLL_SECONDS)
