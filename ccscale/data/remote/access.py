"""Settings for reading remote shards: how long to retry, what to cache."""

from dataclasses import dataclass

from ccscale.config import Data

MIB = 2**20


@dataclass(frozen=True)
class Access:
    """What a reader of shards needs beside the manifest, as `config.Data` has it; small, to be sent to workers."""

    retry_seconds: float = 60.0
    block_bytes: int = 8 * MIB  # fetched at once for a lane
    cache: str | None = None  # folder on this machine
    cache_bytes: int = 64 * 1024 * MIB

    @classmethod
    def of(cls, data: Data) -> "Access":
        """Return what a config says."""
        return cls(data.retry_seconds, data.block_bytes, data.cache, data.cache_bytes)
