"""The DeepSpeed engine of a run: its config, its optimizer, its precision."""

import logging
import warnings
from typing import Any

import torch
import torch.distributed as torch_dist

from ccscale import dist
from ccscale.config import Config
from ccscale.engine.parameter_groups import begin_states, lay_out_alike, leave_out_idle, parameter_groups
from ccscale.model.network import ContrastiveClustering

LARGEST_BUCKET = 25_000_000  # 100 MB: the rest of the backward pass goes on while so many gradients travel


def build_engine(
    config: Config, network: ContrastiveClustering, device: torch.device, universal: bool = False
) -> Any:
    """Wrap `network` in a DeepSpeed engine that steps it by Adam.

    Parameters
    ----------
    config
        The run's config.
    network
        Takes images, gives `Outputs`; the same weights on all ranks.
    device
        Where it trains. The process group must exist, or DeepSpeed looks for MPI.
    universal
        Whether a checkpoint in DeepSpeed's universal format will be loaded.

    Returns
    -------
    deepspeed.DeepSpeedEngine
    """
    deepspeed = _import_deepspeed()
    _use_accelerator(device)
    deepspeed.utils.groups._WORLD_GROUP = None  # of a run before in this process: that group has ended
    train = config.train
    network.to(device, dtype=torch.float64 if train.precision == "fp64" else torch.float32)
    # DeepSpeed's own "Adam" is AdamW with a decay of 0.01: the optimizer is made here.
    optimizer = torch.optim.Adam(
        parameter_groups(config, network), lr=train.lr, weight_decay=train.weight_decay, fused=True
    )
    optimizer.register_step_pre_hook(leave_out_idle)
    optimizer.register_step_pre_hook(lay_out_alike)
    engine, *_ = deepspeed.initialize(
        model=network,
        optimizer=optimizer,
        config=_engine_config(config, bucket_size(network), universal),
        dist_init_required=False,
    )
    if train.precision == "fp64":
        _keep_float64(engine)
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
    """Return how many gradients travel together; ZeRO 1 and 2 hold memory for as many.

    DeepSpeed's own number is 5e8, which is 2 GB for any network, however small.
    """
    return min(LARGEST_BUCKET, sum(parameter.numel() for parameter in network.parameters()))


def _engine_config(config: Config, bucket: int, universal: bool) -> dict[str, Any]:
    train = config.train
    return {
        "train_batch_size": train.global_batch,
        "train_micro_batch_size_per_gpu": train.global_batch // dist.world() // config.micro_batches,
        "gradient_accumulation_steps": config.micro_batches,
        "gradient_clipping": train.clip or 0.0,
        "zero_optimization": {
            "stage": train.zero,
            "reduce_bucket_size": bucket,
            # The norm is there for clipping; DeepSpeed makes the host wait for it. What is not finite is found
            # without it (`guard.py`).
            "compute_grad_norm": train.zero == 0 or train.clip is not None,
        },
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {
            "enabled": train.precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # gradients are averaged in float32
        },
        "checkpoint": {"load_universal": universal},
        "steps_per_print": 2**31,
    }


def _keep_float64(engine: Any) -> None:
    """Average gradients and keep the master weights in float64, for which DeepSpeed has no setting."""
    from deepspeed.runtime.zero.stage_1_and_2 import IPGBucket

    optimizer = engine.optimizer
    engine.communication_data_type = optimizer.communication_data_type = torch.float64
    optimizer.ipg_buckets = {torch.float64: IPGBucket()}
    optimizer.master_weights_and_grads_dtype = optimizer.gradient_accumulation_dtype = torch.float64
    for master, rounded in zip(
        optimizer.single_partition_of_fp32_groups, optimizer.parallel_partitioned_bit16_groups, strict=True
    ):
        master.data = rounded[dist.rank()].detach().clone()
    optimizer._link_all_hp_params()  # parameters know their place in the masters, which are others now


def _use_accelerator(device: torch.device) -> None:
    """Let DeepSpeed use this run's device: by itself it stays with that of the process's first run."""
    from deepspeed.accelerator import get_accelerator, set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    if get_accelerator().device_name() != device.type:
        set_accelerator(CPU_Accelerator() if device.type == "cpu" else CUDA_Accelerator())


def _import_deepspeed() -> Any:
    """Import DeepSpeed, which takes seconds and chatters."""
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Each rank would tell the user of a name that DeepSpeed has not given up yet.
    warnings.filterwarnings(
        "ignore", "`torch.distributed.all_gather_into_tensor` is deprecated", FutureWarning
    )
    # Without this it compiles an operator for inference at every first start, which needs a C++ compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
