"""Exported programs beside ``ccscale predict``: how far their answers are from its own, and how fast they are.

    python tools/bench/exported.py RUN FOLDER [--images 1000]

It takes that many images of the folder, and gives half of them another size (kept as PNG), so that the resize is
tried on large, small, wide and tall ones.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import torch
from PIL import Image

SIZES = (
    (64, 64),
    (640, 480),
    (64, 64),
    (120, 500),
    (64, 64),
    (333, 90),
    (64, 64),
    (31, 47),
    (64, 64),
    (129, 131),
)


def ccscale(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ccscale", *arguments], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "images").mkdir()
        files = sorted(args.folder.rglob("*.JPEG"))
        for i, file in enumerate(files[:: max(len(files) // args.images, 1)][: args.images]):
            image = Image.open(file).convert("RGB").resize(SIZES[i % len(SIZES)], Image.Resampling.LANCZOS)
            image.save(root / "images" / f"{i:05d}.png")
        table = root / "predicted.parquet"
        ccscale(
            "predict",
            args.run,
            "--images",
            str(root / "images"),
            "--features",
            "backbone",
            "--out",
            str(table),
        )
        rows = pq.read_table(table).to_pydict()
        for kind in ("onnx", "torch-export"):
            ccscale("export", args.run, str(root / kind), "--format", kind)
            compare(kind, load(root / kind), rows)


def load(folder: Path) -> Callable[[np.ndarray[Any, Any]], tuple[Any, ...]]:
    if (folder / "model.onnx").exists():
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        return lambda images: tuple(session.run(None, {"images": images}))
    module = torch.export.load(folder / "model.pt2").module()
    return lambda images: module(torch.from_numpy(images))


def compare(kind: str, network: Callable[[Any], tuple[Any, ...]], rows: dict[str, list[Any]]) -> None:
    other, furthest, far, spent = 0, 0.0, 0.0, 0.0
    by_key = zip(rows["origin"], rows["cluster"], rows["confidence"], rows["features"], strict=True)
    for origin, cluster, confidence, features in by_key:
        images = np.array(Image.open(origin))[None]
        begun = time.process_time()
        with torch.inference_mode():
            found = network(images)
        spent += time.process_time() - begun
        other += int(found[0][0]) != cluster
        furthest = max(furthest, abs(float(found[1][0]) - confidence))
        far = max(far, float(np.abs(np.asarray(found[2][0]) - np.asarray(features)).max()))
    count = len(rows["cluster"])
    print(
        f"{kind}: {count:,} images; {other} other clusters; confidence off by {furthest:.1e}, features by "
        f"{far:.1e} at most; {1000 * spent / count:.1f} ms of CPU an image"
    )


if __name__ == "__main__":
    main()
