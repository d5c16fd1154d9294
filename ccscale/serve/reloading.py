"""Reloading: loads a new version in a thread, and replaces the served one only if that succeeds."""

import asyncio

from ccscale.errors import CcscaleError, first_line
from ccscale.progress import say
from ccscale.serve.answer import Answerer
from ccscale.serve.metrics import Metrics
from ccscale.serve.source import ClusterSource, State

LOOK_SECONDS = 1.0


class ReloadingClusters:
    """The newest version that could be loaded.

    Attributes
    ----------
    current
        What answers from now on. Whoever has taken it continues with it: it stays as it is.
    """

    def __init__(self, source: ClusterSource, metrics: Metrics) -> None:
        self._source, self._metrics = source, metrics
        self._state = source.state()  # before it is loaded: what comes in between is new
        self.current: Answerer = source.open()
        metrics.serving(self.current)

    async def follow(self) -> None:
        """Check for new versions until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            state = await asyncio.to_thread(self._state_of_source)
            if state != self._state:
                self._state = state
                await self._reload()

    def _state_of_source(self) -> State:
        try:
            return self._source.state()
        except OSError:  # the disk is away; it is examined again
            return self._state

    async def _reload(self) -> None:
        before = self.current.version
        try:
            self.current = await asyncio.to_thread(self._source.open)
        except Exception as error:
            why = str(error) if isinstance(error, CcscaleError) else first_line(error)
            say(f"a new version could not be loaded; still serving {before}: {why}")
            self._metrics.reload(loaded=False)
            return
        again = " again: something beside it is new" if self.current.version == before else ""
        say(f"serving {self.current.version}{again}")
        self._metrics.reload(loaded=True)
        self._metrics.serving(self.current)
