"""How shards that are no local files are read: for how long it is tried, what is kept."""

from dataclasses import dataclass

from ccscale.config import Data

MIB = 2**20


@dataclass(frozen=True)
class Access:
    """What a reader of shards needs to know beside the manifest; small, to be sent to workers.

    Parameters
    ----------
    retry_seconds
        A read that fails is tried again for this long.
    block_bytes
        What is fetched at once for a lane.
    cache
        Folder of the cache on this machine; None: there is none.
    cache_bytes
        What the cache may hold.
    """

    retry_seconds: float = 60.0
    block_bytes: int = 8 * MIB
    cache: str | None = None
    cache_bytes: int = 64 * 1024 * MIB

    @classmethod
    def of(cls, data: Data) -> "Access":
        """Return what a config says."""
        return cls(data.retry_seconds, data.block_bytes, data.cache, data.cache_bytes)
