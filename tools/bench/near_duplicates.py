"""Measures which near-duplicates are found: copies are planted among images, and looked for by their features.

    python tools/bench/near_duplicates.py IMAGES --work DIR [--each 125] [--size 128] [--json]

IMAGES is a folder of images, as the training images of Tiny-ImageNet. Of each kind, `--each` images get a copy:

    jpeg    encoded again, at quality 50
    half    half as wide and high
    crop    a tenth of its width and of its height cut off, at random sides
    grey    without colour

Images and copies become shards, EfficientNet-Lite0 (the extra `pretrained`) makes their features, and pairs are
told by `ccscale duplicates`: as it is, by looks, and by the cosine of features alone above several thresholds.
Recall is the share of copies whose pair with their original is told; precision of a kind, among the pairs with a
copy of this kind, the share that has one original. Pairs of images that were there before are told beside it: they
may be copies, too. What is in DIR already is not made again.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

KINDS = ("jpeg", "half", "crop", "grey")
THRESHOLDS = (0.7, 0.8, 0.85, 0.9, 0.95, 0.97)
K = 50


def altered(image: Image.Image, kind: str, generator: np.random.Generator) -> tuple[Image.Image, int]:
    """Return a copy of some kind, and the quality that it is encoded with."""
    width, height = image.size
    if kind == "half":
        return image.resize((width // 2, height // 2), Image.Resampling.BICUBIC), 90
    if kind == "crop":
        wide, high = round(width * 0.9), round(height * 0.9)
        left, top = generator.integers(0, width - wide + 1), generator.integers(0, height - high + 1)
        return image.crop((int(left), int(top), int(left) + wide, int(top) + high)), 90
    return (image.convert("L"), 90) if kind == "grey" else (image, 50)


def plant(images: Path, out: Path, each: int, seed: int) -> None:
    """Copy images to a folder, and plant copies of some in another beside it: named after their originals."""
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(found))[: each * len(KINDS)]
    (out / "originals").mkdir(parents=True)
    (out / "copies").mkdir()
    for number, path in enumerate(found):
        shutil.copyfile(path, out / "originals" / f"{number:06d}{path.suffix}")
    for place, number in enumerate(chosen.tolist()):
        kind = KINDS[place // each]
        with Image.open(found[number]) as image:
            copy, quality = altered(image.convert("RGB"), kind, generator)
        copy.save(out / "copies" / f"{kind}-{number:06d}.jpg", quality=quality)


def embed(work: Path, size: int) -> Path:
    """Make shards and features of the images, and find their neighbours."""
    store = work / "store"
    command = [sys.executable, "-m", "ccscale"]
    if not (work / "shards" / "dataset.json").exists():
        subprocess.run([*command, "shards", "make", "folder", work / "images", work / "shards"], check=True)
    backbone = ["--backbone", "tf_efficientnet_lite0", "--weights", "efficientnet-lite0", "--size", str(size)]
    subprocess.run([*command, "embed", work / "shards", store, *backbone], check=True)
    return store


def measure(store: Path) -> dict[str, Any]:
    """Return recall and precision of each kind above each threshold."""
    from ccscale.data.reader import SampleReader
    from ccscale.data.shards.manifest import Manifest
    from ccscale.evaluate.pixel_similarity import pairs_by_pixels
    from ccscale.features.near_pairs import near_pairs
    from ccscale.features.neighbours import find_neighbours
    from ccscale.features.store import open_features

    features = open_features(store)
    find_neighbours(features, K)
    features = open_features(store)
    reader = SampleReader(Manifest.load(features.listing.data.root), features.splits, origins=True)
    names = [Path(reader.origin(row) or "").stem for row in range(features.rows)]
    original = np.array([int(name.rpartition("-")[2]) for name in names])
    kind = np.array([KINDS.index(name.partition("-")[0]) if "-" in name else -1 for name in names])
    told = {"by looks": pairs_by_pixels(features, reader)}
    told |= {f"above {threshold}": near_pairs(features, threshold) for threshold in THRESHOLDS}
    rows = []
    for name, pairs in told.items():
        same = original[pairs.first] == original[pairs.second]
        of, other = kind[pairs.first], kind[pairs.second]
        row: dict[str, Any] = {"told": name, "pairs": len(same)}
        for number, each in enumerate(KINDS):
            of_kind = (of == number) | (other == number)
            right = int((of_kind & same).sum())
            row[each] = {
                "recall": right / max(int((kind == number).sum()), 1),
                "precision": right / max(int(of_kind.sum()), 1),
            }
        row["among the originals"] = int(((of < 0) & (other < 0)).sum())
        rows.append(row)
    return {"images": features.rows, "copies": int((kind >= 0).sum()), "rows": rows}


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{result['images']:,} images, {result['copies']:,} of them planted copies; recall / precision")
    print(f"{'':12}" + "".join(f"{kind:>16}" for kind in KINDS) + "   among the originals")
    for row in result["rows"]:
        cells = "".join(f"{row[kind]['recall']:9.3f} /{row[kind]['precision']:5.3f}" for kind in KINDS)
        print(f"{row['told']:12}{cells}   {row['among the originals']:,}")


def main() -> int:
    """Run the command line."""
    options = parser(__doc__)
    options.add_argument("images", type=Path, metavar="IMAGES")
    options.add_argument("--work", type=Path, required=True, metavar="DIR")
    options.add_argument("--each", type=int, default=125, metavar="N", help="copies of each kind")
    options.add_argument("--size", type=int, default=128, help="side of the images for the backbone")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / "images").exists():
        plant(args.images, args.work / "images", args.each, args.seed)
    tell(measure(embed(args.work, args.size)), args.json, show)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
