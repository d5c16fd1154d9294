"""The parts of a step as `ccscale plan --cluster --parts FILE` reads them: a line of JSON, to be kept as a file."""

import json

import torch

from ccscale.engine.build import build_engine
from ccscale.plan.step_parts import parts_of_step
from gpu_parts.sizes import batch_of, config_of, network_of


def measure(device: torch.device, dry: bool) -> None:
    """Print them."""
    config = config_of(device, dry)
    engine = build_engine(config, network_of(config), device)
    parts = parts_of_step(config, engine, batch_of(config, device), device)
    print(f"   {json.dumps(parts.as_json())}")
