"""Small pictures of known bytes, and what shards made of them hold."""

from pathlib import Path

import numpy as np
from PIL import Image

from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.index import ShardIndex, read_index
from ccscale.data.shards.manifest import Manifest


def picture(seed: int = 0, size=(12, 10), mode: str = "RGB") -> Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    return Image.fromarray(pixels, mode=None if mode != "CMYK" else "CMYK")


def save(path: Path, image: Image.Image | None = None, **options) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture(len(str(path)))).save(path, **options)
    return path.read_bytes()


def make(source, out, **options) -> Manifest:
    return make_shards(source, out, **{"workers": 1, "progress": False, **options})


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def spoil(manifest: Manifest, shard: int, sample: int) -> ShardIndex:
    """Overwrite the beginning of a sample's image, so that it cannot be decoded; return its shard's index."""
    index = read_index(manifest, manifest.shards[shard])
    with open(manifest.locate(manifest.shards[shard]), "r+b") as file:
        file.seek(int(index.offsets[sample]))
        file.write(bytes(30))
    return index


def samples(manifest: Manifest) -> dict[str, tuple[str, str, bytes, int]]:
    """Return key to (split, extension, bytes, label), read through the index."""
    found = {}
    for shard in manifest.shards:
        data, rows = Path(manifest.locate(shard)).read_bytes(), read_index(manifest, shard)
        assert len(data) == shard.filesize
        assert len(rows) == shard.nsamples
        for key, ext, offset, size, label in zip(
            rows.keys, rows.exts, rows.offsets, rows.sizes, rows.labels, strict=True
        ):
            assert key not in found
            found[key] = (shard.split, ext, data[offset : offset + size], label)
    return found
