"""Batch, epochs, optimizer, precision, checkpoints and logs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ccscale.config.section import Count, Fixed, Free, Origin, PathText, Positive, Rounding, Section

Beta = Annotated[float, Field(ge=0, lt=1)]


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
        None,
        description="Stop after this many steps, whatever the epochs. With data.refresh it alone says how long the "
        "run is: data that grow make epochs longer.",
    )
    start: Origin[PathText | None] = Field(
        None,
        description="Begin with the network of another run, heads included, in place of model.pretrained and "
        "model.weights: RUN for its newest checkpoint, RUN@STEP, RUN@best; or of an export. Optimizer and "
        "schedule begin anew.",
    )
    optimizer: Fixed[Literal["adam", "adamw"]] = Field(
        "adam",
        description="torch's Adam, as the paper has it, or AdamW.",
    )
    lr: Fixed[float] = Field(
        3e-4, gt=0, description="Learning rate, for the whole global batch; see schedule for how it changes."
    )
    weight_decay: Fixed[float] = Field(
        0.0,
        ge=0,
        description="adam: of all weights, added to the gradient (L2). adamw: of the weights themselves, but for "
        "norms, biases and what timm names as not to be decayed.",
    )
    betas: Fixed[tuple[Beta, Beta]] = Field(
        (0.9, 0.999), description="The optimizer's averages of the gradient and of its square."
    )
    schedule: Fixed[Literal["constant", "cosine", "wsd"]] = Field(
        "constant",
        description="The rate after the warm-up, step by step. cosine: down to final_lr at the run's end. wsd: it "
        "stays, and goes straight down to final_lr in the last decay_epochs. Under both a step's rate depends on "
        "the run's length: epochs and max_steps may not change under a run.",
    )
    warmup_epochs: Fixed[float] = Field(
        0.0,
        ge=0,
        description="Epochs, or a part of one, in which the rate rises from 0 to lr, step by step. With "
        "data.refresh those of the data that the run began with, as decay_epochs are.",
    )
    decay_epochs: Fixed[float | None] = Field(
        None, gt=0, description="wsd: how long the rate goes down at the end; null: a fifth of the run."
    )
    final_lr: Fixed[float] = Field(
        0.0,
        ge=0,
        le=1,
        description="cosine and wsd: what the rate goes down to, as a factor of lr (0.01: to a hundredth of it).",
    )
    backbone_lr: Fixed[float] = Field(
        1.0,
        gt=0,
        description="The backbone's rate, as a factor of lr: below 1 where it is pretrained and the heads are not.",
    )
    layer_decay: Fixed[float | None] = Field(
        None,
        gt=0,
        le=1,
        description="A layer of the backbone, as timm groups them, has the rate of the one above it times this, "
        "from the heads down; null: all have one. 0.65 to 0.8 is usual for a pretrained vision transformer.",
    )
    ema: Fixed[float | None] = Field(
        None,
        gt=0,
        lt=1,
        description="Average the weights over the steps, with this decay (0.999 looks back about a thousand steps; "
        "in a run's first ones it is less): the averages are evaluated, exported and predicted with, the plain "
        "weights train on. null: no averages.",
    )
    clip: Fixed[float | None] = Field(
        None, gt=0, description="Largest norm of the gradient; null: not clipped."
    )
    precision: Fixed[Literal["fp32", "bf16", "fp64"]] = Field(
        "fp32",
        description="bf16: autocast over float32 weights, losses in float32, of whose products a GPU rounds the "
        "operands to 11 bits. fp64: for checks on a CPU, needs zero 1 or 2.",
    )
    tf32: Rounding[Literal["none", "convolutions", "all"]] = Field(
        "convolutions",
        description="What a GPU may compute in TF32 where numbers are float32: operands are rounded to 11 bits "
        "(of 24), and products are several times as fast. convolutions: these alone, as PyTorch does unless told "
        "otherwise; all: matrix products too, as of vision transformers; none: float32 throughout. It changes "
        "nothing on a CPU, and next to nothing under bf16.",
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

    @model_validator(mode="after")
    def _schedule(self) -> "Train":
        if self.decay_epochs is not None and self.schedule != "wsd":
            raise ValueError(
                f"train.decay_epochs is of train.schedule wsd, and the schedule is {self.schedule}: leave it out"
            )
        if self.schedule != "constant" and self.warmup_epochs + (self.decay_epochs or 0) >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs {self.warmup_epochs:g}"
                + (f" and train.decay_epochs {self.decay_epochs:g} leave" if self.decay_epochs else " leaves")
                + f" nothing of train.epochs {self.epochs}: lower the warm-up, or train longer"
            )
        return self

    @property
    def rate_depends_on_length(self) -> bool:
        """Whether a step's rate is another one in a longer run."""
        return self.schedule != "constant"
