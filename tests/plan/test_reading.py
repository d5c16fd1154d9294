"""What a rank reads, and what its loader holds."""

import numpy as np
from conftest import small_settings

from ccscale.config.file import parse_config
from ccscale.data.order.run import make_schedule
from ccscale.data.read_ahead import REQUEST_BYTES
from ccscale.data.shards.manifest import Manifest
from ccscale.plan.reading import plan_loading, read_data


def test_what_a_rank_reads(shards, tmp_path):
    settings = small_settings(shards, tmp_path / "run", data__lanes=4, data__piece=30, train__max_steps=11)
    config = parse_config(settings)
    reading, why = read_data(config, 2)
    assert why is None
    manifest = Manifest.load(shards)
    sizes = [shard.nsamples for shard in manifest.shards]
    assert (reading.images, reading.shards) == (150, len(sizes))
    assert (reading.steps_per_epoch, reading.dropped, reading.steps) == (9, 6, 11)
    order = make_schedule(config, manifest.shards, 1).order(0)
    samples = np.concatenate([order.batch(step, range(2)) for step in range(9)])
    homes = np.repeat(np.arange(len(sizes)), sizes)[samples]
    assert reading.rank_shards == len(set(homes.tolist())) < len(sizes)


def test_the_loader(tmp_path):
    config = parse_config(small_settings(tmp_path, tmp_path, data__workers=None, data__lanes=8))
    loading = plan_loading(config, 2, cpus=16)
    assert (loading.workers, loading.lanes, loading.blocks) == (8, 4, 0)  # a worker has an image at least
    assert loading.batches == (2 + 4) * 2 * 8 * 16 * 16 * 3
    remote = config.model_copy(update={"data": config.data.model_copy(update={"shards": "s3://b/x"})})
    assert plan_loading(remote, 2, cpus=16).workers == 4  # or, of remote shards, a lane
    assert plan_loading(remote, 2, cpus=3).blocks == 2 * 4 * config.data.block_bytes + 2 * REQUEST_BYTES
