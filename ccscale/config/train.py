"""Batch, epochs, optimizer, precision, checkpoints and logs."""

from typing import Literal

from pydantic import Field

from ccscale.config.section import Count, Fixed, Free, Origin, PathText, Positive, Rounding, Section


class Train(Section):
    """Batch, epochs, optimizer, precision, checkpoints and logs."""

    global_batch: Fixed[int] = Field(256, ge=2, description="Images in a step, over all ranks.")
    micro_batch: Rounding[int | None] = Field(
        None,
        ge=2,
        description="Images, over all ranks, that go through the network at a time, where the global batch does "
        "not fit the devices: a second forward pass for the same gradient. Batch norm then sees so many images; "
        "without batch norm it may change from start to start.",
    )
    epochs: Free[Positive] = Field(1000, description="Passes over the data.")
    max_steps: Free[Positive | None] = Field(
        None, description="Stop after this many steps, whatever the epochs."
    )
    start: Origin[PathText | None] = Field(
        None,
        description="Begin with the network of another run, heads included, in place of model.pretrained and "
        "model.weights: RUN for its newest checkpoint, RUN@STEP, RUN@best. Optimizer and schedule begin anew.",
    )
    lr: Fixed[float] = Field(3e-4, gt=0, description="Adam's learning rate, constant.")
    weight_decay: Fixed[float] = Field(0.0, ge=0, description="Adam's weight decay (L2).")
    clip: Fixed[float | None] = Field(
        None, gt=0, description="Largest norm of the gradient; null: not clipped."
    )
    precision: Fixed[Literal["fp32", "bf16", "fp64"]] = Field(
        "fp32",
        description="bf16: autocast over float32 weights, losses in float32. fp64: for checks on a CPU, "
        "needs zero 1 or 2.",
    )
    max_bad_steps: Free[Count] = Field(
        5,
        description="Steps in a row whose loss or gradient is not finite that are skipped; one more ends the run. "
        "They are told when the log is flushed (log_every).",
    )
    rank_timeout: Free[float] = Field(
        120.0,
        ge=1,
        description="Seconds without a sign of life, or in one place of a step while others wait for it, after "
        "which a rank counts as lost: then all end, with its name and exit code 76.",
    )
    zero: Rounding[Literal[0, 1, 2]] = Field(
        0,
        description="DeepSpeed's ZeRO stage; it may change from start to start: the checkpoint is converted.",
    )
    compile: Free[bool] = Field(
        False, description="Compile the backbone (torch.compile): slower to start, faster from then on."
    )
    profile: Free[Positive | None] = Field(
        None,
        description="Trace this many steps of each rank, after ten, into the run's folder profile/; "
        "ui.perfetto.dev shows them.",
    )
    device: Free[Literal["auto", "cpu", "cuda"]] = Field("auto", description="auto: CUDA where there is one.")
    save_every: Free[Positive] = Field(
        1000, description="Steps between checkpoints; the last step is saved too."
    )
    save_minutes: Free[float | None] = Field(
        15.0,
        gt=0,
        description="Minutes between checkpoints, where save_every steps take longer; null: by steps alone.",
    )
    keep_last: Free[Positive] = Field(
        2, description="The newest checkpoints are kept, and the best one by each measure of the evaluations."
    )
    keep_every: Free[Positive | None] = Field(
        None, description="Of every so many steps one checkpoint is kept for good."
    )
    log_every: Free[Positive] = Field(
        10, description="Steps between flushes of metrics.jsonl; a line is a step."
    )
