"""Checks of the disk for runs, its clock, and the shards."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from rich.filesize import decimal

from ccscale import atomic
from ccscale.checkpoint.permissions import PROBE, check_kept
from ccscale.data.reader import SampleReader
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.doctor.finding import Finding
from ccscale.errors import Fault, InputError
from ccscale.wording import counted

WRITTEN = 16 * 2**20  # bytes
LEAST_FREE = 5 * 10**9
LEAST_RATE = 10 * 10**6  # bytes a second
SKEW_SECONDS = 5.0
EPOCH = 1_735_689_600  # 2025: a clock before it is not set
READ = 16  # samples
RETRY_SECONDS = 5.0


def check_disk(run: str | os.PathLike[str]) -> list[Finding]:
    """Write, flush and rename a file in the folder for runs, and compare its clock with the machine's."""
    folder = next(path for path in (Path(run), *Path(run).absolute().parents) if path.is_dir())
    other = "choose a writable folder on a local or shared disk (--run DIR, run=DIR)"
    try:
        check_kept(folder)
        with tempfile.TemporaryDirectory(prefix=PROBE, dir=folder) as made:
            path, data = Path(made, "file"), os.urandom(WRITTEN)
            begun = time.perf_counter()
            atomic.write_bytes(path, data)
            rate = WRITTEN / (time.perf_counter() - begun)
            if path.read_bytes() != data:
                return [
                    Finding("disk", "wrong", f"{folder}: the data read differ from the data written", other)
                ]
            skew = path.stat().st_mtime - time.time()
    except InputError as error:
        return [Finding("disk", "wrong", str(error))]
    except OSError as error:
        return [Finding("disk", "wrong", f"{folder} cannot be written: {error.strerror}", other)]
    free = shutil.disk_usage(folder).free
    says = f"{folder}: {decimal(round(rate))} per second (write, flush, rename), {decimal(free)} free"
    found = [Finding("disk", "good", says)]
    if free < LEAST_FREE:
        found = [
            Finding(
                "disk", "note", says, "a checkpoint is several times as large as the network: free some space"
            )
        ]
    elif rate < LEAST_RATE:
        found = [
            Finding("disk", "note", says, "saving will be slow: use another disk, or raise train.save_every")
        ]
    return [*found, _clock(folder, skew)]


def _clock(folder: Path, skew: float) -> Finding:
    now = time.time()
    if now < EPOCH:
        says = f"it is set to {time.strftime('%Y-%m-%d', time.localtime(now))}"
        return Finding("clock", "wrong", says, "set it: HTTPS certificates are rejected otherwise")
    if abs(skew) > SKEW_SECONDS:
        says = (
            f"the disk of {folder} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine"
        )
        remedy = "synchronize both with one time server: locks on runs are judged by file times"
        return Finding("clock", "note", says, remedy)
    return Finding("clock", "good", time.strftime("%Y-%m-%d %H:%M:%S %Z") + ", the same as the disk")


def check_shards(shards: str) -> list[Finding]:
    """Read the manifest and some of the samples."""
    try:
        manifest = Manifest.load(shards, RETRY_SECONDS)
        manifest.check_files(manifest.splits)
        reader = SampleReader(manifest, list(manifest.splits), Access(RETRY_SECONDS))
        some = range(0, len(reader), max(1, len(reader) // READ))[:READ]
        begun = time.perf_counter()
        read = sum(len(reader[number].data) for number in some)
        seconds = time.perf_counter() - begun
    except (InputError, Fault) as error:
        return [Finding("shards", "wrong", str(error), "`ccscale shards verify` checks every byte")]
    if not read:
        return [
            Finding("shards", "wrong", f"{shards} has no samples", "make them with `ccscale shards make`")
        ]
    says = (
        f"{shards}: {counted(len(reader), 'sample')} in {counted(len(manifest.shards), 'shard')}; reading one "
        f"takes {1000 * seconds / len(some):,.0f} ms ({decimal(read // len(some))})"
    )
    return [Finding("shards", "good", says)]
