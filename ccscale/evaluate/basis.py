"""The basis of a result: what it was computed from. Every file kept for later records it and is reused only if it
matches.

::

    {"step": 1000, "weights": SHA-256 of the network, "splits": ["train"], "data": `Manifest.digest` of these,
     "head": 3}     the cluster head that served, where it is not the first

It is stored in the metadata of a parquet file (`KEY`), an array of an .npz, or an entry of a JSON file
(``basis``). File times would not do: a file may be copied, and the evaluation of an older checkpoint may be newer
than the newest checkpoint.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ccscale.checkpoint import Checkpoint
from ccscale.checkpoint.marker import MARKER, hash_files, read_marker
from ccscale.data.shards.manifest import Manifest
from ccscale.model.export import WEIGHTS, read_settings

KEY = b"ccscale.basis"


@dataclass(frozen=True)
class Basis:
    """A network and the images that it looked at.

    Attributes
    ----------
    step
        Of the checkpoint.
    weights
        SHA-256 of its network.
    splits
        Of the data set.
    data
        Digest of their shards.
    head
        The cluster head that served, counted from 0.
    """

    step: int
    weights: str
    splits: tuple[str, ...]
    data: str
    head: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint, manifest: Manifest, splits: Sequence[str], head: int = 0) -> "Basis":
        """Return that of a checkpoint and some splits."""
        return cls(checkpoint.step, weights_of(checkpoint), tuple(splits), manifest.digest(splits), head)

    @classmethod
    def parse(cls, value: Any) -> "Basis | None":
        """Take what `as_json` or `to_bytes` returned; None for anything else, as where a file carries none."""
        try:
            found = json.loads(value) if isinstance(value, (str, bytes)) else value
            return cls(
                found["step"], found["weights"], tuple(found["splits"]), found["data"], found.get("head", 0)
            )
        except (ValueError, KeyError, TypeError):
            return None

    def as_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        found = asdict(self) | {"splits": list(self.splits)}
        return found if self.head else {name: value for name, value in found.items() if name != "head"}

    def to_bytes(self) -> bytes:
        """Return it as JSON's text."""
        return json.dumps(self.as_json()).encode()


def weights_of(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of a checkpoint's network, which its marker holds; an exported network has none.

    Of a network that is frozen in part it is one of both hashes.
    """
    if not (checkpoint.path / MARKER).exists():
        return hash_files(checkpoint.path, flush=False)[WEIGHTS]["sha256"]
    trained: str = read_marker(checkpoint.path)["files"][WEIGHTS]["sha256"]
    frozen = read_settings(checkpoint.path)[2].get("frozen")
    return trained if not frozen else hashlib.sha256(f"{trained} {frozen}".encode()).hexdigest()
