"""Damage of a shard, as found by its checks."""

from ccscale.errors import InputError


class ShardError(InputError):
    """A shard that is damaged or inconsistent with its manifest.

    Attributes
    ----------
    shard, what
        Its path or URL; what is wrong and where.
    """

    def __init__(self, shard: str, what: str) -> None:
        super().__init__(shard, what)
        self.shard, self.what = shard, what

    def __str__(self) -> str:
        return f"{self.shard}: {self.what}"


class CompressedTar(ShardError):
    """A tar in which nothing can be found by a seek."""
