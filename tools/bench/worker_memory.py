"""The memory of a loader process that streams shards over HTTP, beside the bound that the config sets."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule, default_block
from ccscale.data.pairs import pair_batches
from ccscale.data.read_ahead import REQUEST_BYTES
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from memory import MIB, forget_peak, peak, resident
from pipelines import LANES, one_thread, view_settings
from servers import ShardServer

BATCH = 16
BESIDE = REQUEST_BYTES + 16 * MIB  # threads, and the image that is being decoded


def worker_memory(shards: Path, size: int, block_bytes: int, epochs: int) -> dict[str, float]:
    """Stream some epochs in a fresh process.

    Returns
    -------
    dict
        In MiB: ``block``, the config's `data.block_bytes`; ``grown``, by how much the process's resident memory
        grew at most since its first batch from local files; ``bound``, two blocks a lane, two batches (the one that
        was handed over and the one that is made) and `BESIDE`.
    """
    batch_bytes = 2 * BATCH * size * size * 3
    with (
        ShardServer(shards) as server,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        grown = pool.submit(_stream, shards, server.url, size, block_bytes, epochs).result()
    bound = 2 * LANES * block_bytes + BESIDE + 2 * batch_bytes
    return {"block": block_bytes / MIB, "grown": grown / MIB, "bound": bound / MIB}


def _stream(shards: Path, url: str, size: int, block_bytes: int, epochs: int) -> int:
    """Return by how many bytes the peak of this process's memory lies above what it had after a local batch."""
    one_thread()
    local, settings = Manifest.load(shards), view_settings(size)
    entries = local.select(["train"])
    sizes = tuple(shard.nsamples for shard in entries)
    block = default_block(sum(sizes), sum(shard.filesize for shard in entries), block_bytes)
    schedule = PhasedSchedule.single(Schedule(sizes, 0, BATCH, LANES, piece=1, block=block))
    next(pair_batches(local, ["train"], schedule, settings, 0, 1))
    remote = Manifest.load(url)
    forget_peak()
    before = resident()
    access = Access(block_bytes=block_bytes)
    for _ in pair_batches(
        remote, ["train"], schedule, settings, 0, epochs * schedule.steps_per_epoch, access=access
    ):
        pass
    return peak() - before
