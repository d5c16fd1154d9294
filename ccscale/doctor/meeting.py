"""One of the ranks with which `ranks.py` tests a process group and DeepSpeed: ``python -m ccscale.doctor.meeting``.

It prints a line of JSON after each success: ``{"met": seconds}``, then ``{"trained": seconds}``.
"""

import json
import time

import torch

from ccscale import dist
from ccscale.config.file import parse_config
from ccscale.device import pick_device
from ccscale.engine.build import build_engine
from ccscale.model.network import ContrastiveClustering
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment

SIZE = 32  # pixels
SETTINGS = {
    "data": {"shards": "none"},
    "views": {"size": SIZE},
    "model": {"backbone": "test_resnet", "clusters": 4, "stem": "small"},
    "train": {"global_batch": 8, "zero": 1},
}


def main() -> None:
    """Connect to the other ranks, sum a tensor over them, and take a step with ZeRO 1."""
    env, config = RankEnvironment.read(), parse_config(SETTINGS)
    gpus = torch.cuda.device_count()
    device = pick_device("cuda" if gpus >= env.local_world else "cpu", env.local_rank)
    begun = time.monotonic()
    with process_group(env, device):
        total = dist.sum_(torch.full((1000,), float(env.rank + 1), device=device))
        expected = env.world * (env.world + 1) / 2
        if not bool((total == expected).all()):
            raise SystemExit(f"the sum over the ranks is {float(total[0])} instead of {expected}")
        print(json.dumps({"met": time.monotonic() - begun, "device": device.type}), flush=True)
        begun = time.monotonic()
        torch.manual_seed(0)
        engine = build_engine(config, ContrastiveClustering(config.model, SIZE), device)
        outputs = engine(torch.rand(4, 3, SIZE, SIZE, device=device))
        engine.backward(outputs.embeddings.square().sum() + outputs.assignments.square().sum())
        engine.step()
        print(json.dumps({"trained": time.monotonic() - begun}), flush=True)


if __name__ == "__main__":
    main()
