"""Builds the DeepSpeed engine of a run: its config, optimizer and precision."""

from typing import Any

import torch
import torch.distributed as torch_dist

from ccscale import dist
from ccscale.config import Config, Train
from ccscale.engine.adapter import Engine
from ccscale.engine.parameter_groups import (
    begin_states,
    lay_out_gradients,
    lay_out_moments,
    leave_out_idle,
    parameter_groups,
)
from ccscale.model.network import ContrastiveClustering

OPTIMIZERS: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
LARGEST_BUCKET = 25_000_000  # 100 MB of memory; nothing is computed while they travel (`overlap_comm` is off)


def weight_dtype(train: Train) -> torch.dtype:
    """Return the type of the weights, of the losses and, unless autocast rounds them at once, of the views."""
    return torch.float64 if train.precision == "fp64" else torch.float32


def build_engine(
    config: Config, network: ContrastiveClustering, device: torch.device, universal: bool = False
) -> Engine:
    """Wrap `network` in an engine that trains it with Adam or AdamW; all ranks call it together.

    Parameters
    ----------
    config
        The run's config.
    network
        Takes images, gives `Outputs`; the same weights on all ranks.
    device
        Where it trains.
    universal
        Whether a checkpoint in DeepSpeed's universal format will be loaded.
    """
    train = config.train
    network.to(device, dtype=weight_dtype(train))
    if train.precision == "bf16":
        network.frozen = network.frozen.kept_as(torch.bfloat16)
    if train.ema is not None:
        network.keep_average()
    # DeepSpeed's own "Adam" is AdamW with a decay of 0.01: the optimizer is made here.
    optimizer = OPTIMIZERS[train.optimizer](
        parameter_groups(config, network), lr=train.lr, betas=train.betas, fused=True
    )
    optimizer.register_step_pre_hook(leave_out_idle)
    optimizer.register_step_pre_hook(lay_out_gradients)
    optimizer.register_load_state_dict_post_hook(lay_out_moments)
    settings = _deepspeed_config(config, bucket_size(network), universal)
    engine = Engine(network, optimizer, settings, device, train.precision == "fp64")
    for buffer in network.buffers():  # DeepSpeed sends parameters alone
        torch_dist.broadcast(buffer, src=0)
    # Only now, since DeepSpeed sends contiguous weights alone; before there are moments, which take the weights'
    # strides. Under ZeRO 1 and 2 the weights are views of DeepSpeed's flat buffers, which know no other layout.
    if train.zero == 0:
        network.to(memory_format=torch.channels_last)
    begin_states(optimizer)
    if train.compile:
        network.backbone.compile()
    return engine


def bucket_size(network: ContrastiveClustering) -> int:
    """Return the number of gradients communicated together; ZeRO 1 and 2 allocate memory for them.

    DeepSpeed's default is 5e8, which is 2 GB even for a small network.
    """
    trained = (parameter for parameter in network.parameters() if parameter.requires_grad)
    return min(LARGEST_BUCKET, sum(parameter.numel() for parameter in trained))


def _deepspeed_config(config: Config, bucket: int, universal: bool) -> dict[str, Any]:
    train = config.train
    return {
        "train_batch_size": train.global_batch,
        "train_micro_batch_size_per_gpu": train.global_batch // dist.world() // config.micro_batches,
        "gradient_accumulation_steps": config.micro_batches,
        "gradient_clipping": 0.0,  # (its own default is 1) `guard.py` clips
        "zero_optimization": {
            "stage": train.zero,
            "reduce_bucket_size": bucket,
            # DeepSpeed makes the host wait for it; what is not finite is found without it (`guard.py`).
            "compute_grad_norm": train.zero == 0,
        },
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {
            "enabled": train.precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # gradients are averaged in float32
        },
        "checkpoint": {"load_universal": universal},
        "steps_per_print": 2**31,
        "timers": {"throughput": {"enabled": False}},  # it makes the host wait for the device twice a step
    }
