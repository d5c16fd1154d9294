"""Feeds damaged and hostile files to everything that reads files of others, for as long as is wanted.

    python tools/faults/fuzz.py [TARGET …] [--seconds 60] [--seed N] [--save DIR]
    python tools/faults/fuzz.py TARGET --replay FILE

    tar        scan_tar, and the index that is made of what it finds
    manifest   Manifest.load
    index      read_index and the samples that it points to
    image      the views of training, the whole image of evaluation, the conversion to every format

What must hold: only the defined errors come out (InputError, which ShardError is, and BadImage), in one line; no
file is opened for writing, moved or removed, no process is started, nothing is connected to; and memory stays
bounded. What breaks this is made as small as hypothesis can and saved in DIR with its traceback. Prints a JSON
line with the counts; exits with 1 if anything was found.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from ccscale.config import Views
from ccscale.data.conversion.preparation import FORMATS, Preparation, prepare
from ccscale.data.images.crops import crop_views
from ccscale.data.images.decode import silence_pillow
from ccscale.data.images.views import draw_views
from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.data.shards.index import from_parquet, read_index, scan_tar, to_parquet
from ccscale.data.shards.keys import digests
from ccscale.data.shards.manifest import NAME, Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import BadImage, InputError

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
import fuzz_inputs
import fuzz_tars
from guard import Forbidden, Guard
from memory import forget_peak, peak

EXPECTED = (InputError, BadImage)
MEMORY = 2**30  # bytes that reading one small file may take at the most

guard = Guard()


def read_tar(data: bytes, folder: Path) -> None:
    """Scan a tar; what is found must lie in it and survive being written to an index."""
    with guard.watching():
        found = scan_tar(io.BytesIO(data), "fuzz.tar")
        assert (found.offsets >= 0).all()
        assert (found.sizes >= 0).all()
        assert (found.offsets + found.sizes <= len(data)).all()
        assert len(set(found.keys)) == len(found) == len(digests(found.keys))
        assert from_parquet(to_parquet(found)).same_as(found)


def read_manifest(data: bytes, folder: Path) -> None:
    """Load a manifest; whatever it lists must lie in its folder or be remote."""
    (folder / NAME).write_bytes(data)
    for entry in fuzz_inputs.manifest_content()["shardlist"]:
        (folder / entry["url"]).write_bytes(bytes(entry["filesize"]))
    with guard.watching():
        manifest = Manifest.load(folder)
        for shard in manifest.shards:
            place = manifest.locate(shard)
            if "://" not in place:
                inside = os.path.normpath(place)
                assert inside.startswith(f"{folder}{os.sep}"), place
            assert "::" not in place
            assert not place.lower().startswith(("pipe", "file", "local")), place
        manifest.digest(manifest.splits)
        manifest.check_files(manifest.splits)


def read_one_index(data: bytes, folder: Path) -> None:
    """Read a shard's index and the samples that it points to."""
    tar = folder / "train-000000.tar"
    tar.write_bytes(bytes(4096))
    (folder / "train-000000.index.parquet").write_bytes(data)
    shard = Shard(tar.name, 2, 4096, "0" * 64, "train")
    manifest = Manifest(str(folder), "x", (shard,), (), (), {"train": 0}, {})
    with guard.watching():
        found = read_index(manifest, shard)
        reader = SampleReader(manifest, ["train"])
        for i in range(2):
            sample = reader[i]
            assert len(sample.data) == found.sizes[i]
            assert sample.key == reader.key(i) == found.keys[i]
            assert sample.key.encode() == found.keys[i].encode()
            assert sample.label == found.labels[i] >= -1


VIEWS = Views(size=8)
WHOLE_VIEWS = Views(size=16, scaled_decode=False, rotate=20)


def read_image(data: bytes, folder: Path) -> None:
    """Read an image in each way; all agree on whether it is one."""
    with guard.watching():
        outcomes = set()
        for views in (VIEWS, WHOLE_VIEWS):
            outcomes.add(_outcome(lambda v=views: crop_views(data, v, draw_views(v, 0, 0, np.arange(1)), 0)))
        outcomes.add(_outcome(lambda: whole_image(data, 8)))
        for how in (Preparation(), Preparation(resize=5), *(Preparation(format=name) for name in FORMATS)):
            outcomes.add(_outcome(lambda h=how: prepare(data, h)))
        # (A format may have no numbers for a side that others have.)
        outcomes = {said for said in outcomes if "do not fit into" not in (said or "")}
        assert len(outcomes) == 1, outcomes
        if outcomes != {None}:
            raise BadImage(*outcomes)


def _outcome(read) -> str | None:
    """Return what is said of an image, None if it can be read."""
    try:
        read()
    except BadImage as error:
        return str(error)
    return None


TARGETS = {
    "tar": (fuzz_tars.tars, fuzz_tars.tar_seeds, read_tar),
    "manifest": (fuzz_inputs.manifests, fuzz_inputs.manifest_seeds, read_manifest),
    "index": (fuzz_inputs.indexes, fuzz_inputs.index_seeds, read_one_index),
    "image": (fuzz_inputs.images, fuzz_inputs.image_seeds, read_image),
}


class Fuzzer:
    """Feeds one target.

    Attributes
    ----------
    counts
        Files that were read, and those that were refused, by the kind of error.
    slowest
        Seconds that the slowest file took.
    most
        Bytes that the process had in memory, at most, while a file was read.
    """

    def __init__(self, target: str, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.strategy, seeds, self.read = TARGETS[target]
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self.most = 0
        self.last = b""
        guard.armed = False
        silence_pillow()
        for data in seeds():  # whatever is imported late is imported, and compiled, now
            with contextlib.suppress(*EXPECTED):
                self.read(data, folder)
        guard.armed = True

    def feed(self, data: bytes) -> None:
        """Read one file; raises what must not happen."""
        self.last = data
        (self.folder / "last.bin").write_bytes(
            data
        )  # it stays there if the process is killed, by a fault in C
        forget_peak()
        start, before = time.perf_counter(), peak()
        outcome, message = "read", "one line"
        try:
            self.read(data, self.folder)
        except EXPECTED as error:
            outcome, message = type(error).__name__, str(error)
        assert len(message.splitlines()) == 1, f"a message of several lines: {message}"
        self.counts[outcome] += 1
        self.slowest = max(self.slowest, time.perf_counter() - start)
        self.most = max(self.most, peak())
        assert peak() - before < MEMORY, f"{(peak() - before) >> 20} MiB of memory"

    def run(self, number: int, examples: int) -> None:
        """Feed files that follow from a seed; raises what must not happen, for the smallest such file."""

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(self.strategy())
        def feed(data: bytes) -> None:
            self.feed(data)

        feed()

    def save(self, folder: Path, trace: str) -> Path:
        """Write the last file, and what it led to beside it; return its path."""
        path = folder / f"{self.target}-{hashlib.sha256(self.last).hexdigest()[:12]}.bin"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.last)
        path.with_suffix(".txt").write_text(trace)
        return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; by default all"
    )
    parser.add_argument("--seconds", type=float, default=60, help="in all (default: %(default)s)")
    parser.add_argument(
        "--examples", type=int, default=300, help="between two looks at the clock (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="the first of the seeds (default: a random one)")
    parser.add_argument("--save", type=Path, default=Path("fuzz-found"), help="folder for what is found")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed this file instead")
    args = parser.parse_args(arguments)
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"there is no target {min(unknown)}")
    names = args.targets or list(TARGETS)
    number = random.randrange(10**9) if args.seed is None else args.seed
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        fuzzers = {name: Fuzzer(name, Path(os.path.realpath(scratch))) for name in names}
        if args.replay:
            for fuzzer in fuzzers.values():
                fuzzer.feed(args.replay.read_bytes())
        stop = time.monotonic() + (0 if args.replay else args.seconds)
        first = number
        while time.monotonic() < stop:
            for fuzzer in fuzzers.values():
                try:
                    fuzzer.run(number, args.examples)
                except (Exception, Forbidden) as error:
                    # (Without the notes that hypothesis adds: the file itself is beside it.)
                    trace = (
                        "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}: {error}"
                    )
                    path = fuzzer.save(args.save, f"seed {number}\n{trace}")
                    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                    print(f"{path}: {what}", file=sys.stderr)
                    found.add(path.stem)
            number += 1
    counts = {
        name: dict(fuzzer.counts) | {"slowest_s": round(fuzzer.slowest, 3)}
        for name, fuzzer in fuzzers.items()
    }
    print(
        json.dumps(
            {
                "seeds": [first, number - 1],
                "targets": counts,
                "found": sorted(found),
                "peak_mib": max(fuzzer.most for fuzzer in fuzzers.values()) >> 20,
            }
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
