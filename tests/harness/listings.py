"""Writing small sources and reading back what became of them, for the tests of each kind of source."""

import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.items import Source


def touch(root: Path, *names: str) -> Path:
    """Make files that no listing may decode."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never decoded while listing")
    return root


def listing(source: Source) -> dict[str, list[tuple[str, int | None]]]:
    return {split: [(item.key, item.label) for item in items] for split, items in source.splits.items()}


def encoded(seed: int, format: str = "JPEG", size: tuple[int, int] = (9, 7)) -> bytes:
    """Return an image file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format)
    return data.getvalue()


class Stored(NamedTuple):
    """A sample as it lies in a shard."""

    split: str
    label: int | None
    origin: str
    extension: str
    data: bytes

    @property
    def pixels(self) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.data)))


def converted(source: Source, out: Path, **options) -> tuple[Manifest, dict[str, Stored]]:
    """Make shards in `out` and read them back with nothing but `tarfile`: the manifest, and key to sample."""
    make_shards(source, out, **{"workers": 1, "progress": False, **options})
    manifest = Manifest.load(out)
    found = {}
    for path in sorted(out.glob("*.tar")):
        members: dict[str, dict[str, bytes]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.rpartition(".")
                members.setdefault(key, {})[extension] = tar.extractfile(member).read()
        for key, parts in members.items():
            assert key not in found
            facts = json.loads(parts.pop("json"))
            label = int(parts.pop("cls")) if "cls" in parts else None
            ((extension, data),) = parts.items()
            found[key] = Stored(facts["split"], label, facts["origin"], extension, data)
    return manifest, found
