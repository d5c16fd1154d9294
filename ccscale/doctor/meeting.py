"""One of the ranks by which `ranks.py` tries a process group and DeepSpeed: ``python -m ccscale.doctor.meeting``.

It prints a line of JSON for each thing that went well: ``{"met": seconds}``, then ``{"trained": seconds}``.
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
    """Meet the other ranks, add a number up, and take a step under ZeRO 1."""
    env, config = RankEnvironment.read(), parse_config(SETTINGS)
    gpus = torch.cuda.device_count()
    device = pick_device("cuda" if gpus >= env.local_world else "cpu", env.local_rank)
    begun = time.monotonic()
    with process_group(env, device):
        total = dist.sum_(torch.full((1000,), float(env.rank + 1), device=device))
        expected = env.world * (env.world + 1) / 2
        if not bool((total == expected).all()):
            raise SystemExit(f"the ranks' numbers add up to {float(total[0])}, and not to {expected}")
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
