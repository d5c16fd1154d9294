"""Attendance at the rendezvous: which ranks have joined, and whether they are still alive.

torch's own store is told to nobody until all ranks have come to it; this is another connection to it.
"""

import json
import os
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore

from ccscale.process_name import lives, own_name
from ccscale.rank_environment import RankEnvironment
from ccscale.threads import background


class Attendance:
    """A list in the store where the ranks meet; each enters itself, in a thread, as soon as the store is there."""

    def __init__(self, env: RankEnvironment, timeout: timedelta) -> None:
        self._env = env

        def enter() -> Store:
            place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            met = TCPStore(*place, wait_for_workers=False, timeout=timeout)
            # torchrun keeps its store where it starts the ranks again, and with it those from before.
            store = PrefixStore(f"came {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", met)
            store.set(str(env.rank), json.dumps(own_name()))
            return store

        self._entered = background(enter)

    @property
    def has_entered(self) -> bool:
        """Whether this rank has come to the store."""
        return self._entered.done() and self._entered.exception() is None

    def count(self) -> int:
        """Return how many ranks have come, with this one."""
        return sum(rank == self._env.rank or self._name(rank) is not None for rank in range(self._env.world))

    def gone(self) -> tuple[int, dict[str, Any]] | None:
        """Return a rank that has come and lives no more, and the name of its process; None where none is known.

        Those of this machine are examined: of others it cannot be seen.
        """
        first = self._env.rank - self._env.local_rank
        for rank in range(first, min(first + self._env.local_world, self._env.world)):
            name = None if rank == self._env.rank else self._name(rank)
            if name is not None and lives(name) is False:
                return rank, name
        return None

    def _name(self, rank: int) -> dict[str, Any] | None:
        """Return the name of a rank's process; None for one that has not come, as far as is known."""
        if not self.has_entered:
            return None
        store, key = self._entered.result(), str(rank)
        try:
            return dict(json.loads(store.get(key))) if store.check([key]) else None
        except RuntimeError:  # the store has gone
            return None
