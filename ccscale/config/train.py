"""Batch, epochs, optimizer, precision, checkpoints and logs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ccscale.config.section import Count, Fixed, Free, Origin, PathText, Positive, Rounding, Section

Beta = Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    """Batch, epochs, optimizer, precision, checkpoints and logs."""

    global_batch: Fixed[int] = Field(256, ge=2, description="Images per step, over all ranks.")
    micro_batch: Rounding[int | None] = Field(
        None,
        ge=2,
        description="Images per forward pass, over all ranks, when the global batch does not fit into memory. "
        "Gradients stay those of the whole global batch, at the cost of a second forward pass; batch norm uses "
        "the statistics of each micro-batch. Without batch norm in the backbone, it may change between starts.",
    )
    epochs: Free[Positive] = Field(1000, description="Passes over the data.")
    max_steps: Free[Positive | None] = Field(
        None,
        description="Stop after this many steps, even if epochs is not reached. With data.refresh it alone "
        "sets the length of the run, since epochs grow with the data.",
    )
    start: Origin[PathText | None] = Field(
        None,
        description="Start from the network of another run, heads included, instead of model.pretrained or "
        "model.weights: RUN (its newest checkpoint), RUN@STEP, RUN@best, or an exported folder. Optimizer and "
        "schedule start fresh.",
    )
    optimizer: Fixed[Literal["adam", "adamw"]] = Field(
        "adam",
        description="Optimizer: torch's Adam, as in the paper, or AdamW.",
    )
    lr: Fixed[float] = Field(
        3e-4,
        gt=0,
        description="Peak learning rate, for the whole global batch; it is not scaled by the number of ranks.",
    )
    weight_decay: Fixed[float] = Field(
        0.0,
        ge=0,
        description="Weight decay. adam: L2 penalty on all weights. adamw: decoupled, without norms, biases "
        "and the parameters that timm excludes.",
    )
    betas: Fixed[tuple[Beta, Beta]] = Field(
        (0.9, 0.999), description="Adam's decay rates of the averages of the gradient and of its square."
    )
    schedule: Fixed[Literal["constant", "cosine", "wsd"]] = Field(
        "constant",
        description="Learning rate after the warm-up, updated every step. cosine: decays to final_lr times lr "
        "at the end of the run. wsd: constant, then linear decay to final_lr times lr over the last "
        "decay_epochs. With either, epochs and max_steps are fixed once the run has begun.",
    )
    warmup_epochs: Fixed[float] = Field(
        0.0,
        ge=0,
        description="Epochs (fractions allowed) of linear warm-up from 0 to lr. With data.refresh, epochs of "
        "the initial data, as for decay_epochs.",
    )
    decay_epochs: Fixed[float | None] = Field(
        None, gt=0, description="For wsd: epochs of the final decay. null: a fifth of the run."
    )
    final_lr: Fixed[float] = Field(
        0.0,
        ge=0,
        le=1,
        description="For cosine and wsd: final learning rate as a factor of lr (0.01: a hundredth of it).",
    )
    backbone_lr: Fixed[float] = Field(
        1.0,
        gt=0,
        description="Learning rate of the backbone as a factor of lr. Set it below 1 for a pretrained backbone "
        "with new heads.",
    )
    layer_decay: Fixed[float | None] = Field(
        None,
        gt=0,
        le=1,
        description="Layer-wise learning rate decay: each layer group of the backbone, in timm's grouping, has "
        "this factor times the rate of the group above it. null: one rate for all. 0.65 to 0.8 is usual for a "
        "pretrained ViT.",
    )
    ema: Fixed[float | None] = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the weights (0.999 averages over about 1000 "
        "steps; it is lower in the first steps). The averaged weights are evaluated, exported and used for "
        "predictions. null: no averaging.",
    )
    clip: Fixed[float | None] = Field(
        None, gt=0, description="Maximum L2 norm of the gradient. null: no clipping."
    )
    precision: Fixed[Literal["fp32", "bf16", "fp64"]] = Field(
        "fp32",
        description="bf16: autocast with float32 weights; the losses stay in float32, with TF32 matrix "
        "products on a GPU. fp64: for checks on a CPU; needs zero 1 or 2.",
    )
    tf32: Rounding[Literal["none", "convolutions", "all"]] = Field(
        "convolutions",
        description="Which float32 operations a GPU may run in TF32 (operands rounded to 11 bits, several "
        "times as fast). convolutions: only these, PyTorch's default. all: matrix products too, which matters "
        "for ViTs. none: full float32. No effect on a CPU, little under bf16.",
    )
    max_bad_steps: Free[Count] = Field(
        5,
        description="Consecutive steps with a non-finite loss or gradient that are skipped; one more stops the "
        "run. They are reported when the log is flushed (log_every).",
    )
    rank_timeout: Free[float] = Field(
        120.0,
        ge=1,
        description="Seconds after which a rank counts as lost: no heartbeat for so long, or stuck at one "
        "point of a step while others wait for it. All ranks then exit with code 76 and name it.",
    )
    zero: Rounding[Literal[0, 1, 2]] = Field(
        0,
        description="ZeRO stage of DeepSpeed. It may change between starts; the checkpoint is converted.",
    )
    compile: Free[bool] = Field(
        False, description="Compile the backbone with torch.compile: a slower start, faster steps."
    )
    profile: Free[Positive | None] = Field(
        None,
        description="Trace this many steps of each rank, after the first ten, into profile/ of the run's "
        "folder, to be viewed at ui.perfetto.dev. null: no trace.",
    )
    device: Free[Literal["auto", "cpu", "cuda"]] = Field(
        "auto", description="Device to train on. auto: CUDA if available, else the CPU."
    )
    save_every: Free[Positive] = Field(
        1000, description="Steps between checkpoints. The last step is always saved."
    )
    save_minutes: Free[float | None] = Field(
        15.0,
        gt=0,
        description="Maximum minutes between checkpoints, for steps so slow that save_every takes longer. "
        "null: by steps alone.",
    )
    keep_last: Free[Positive] = Field(
        2,
        description="Number of newest checkpoints to keep, besides the best one by each measure of the "
        "evaluations.",
    )
    keep_every: Free[Positive | None] = Field(
        None, description="Also keep one checkpoint for good every this many steps. null: none."
    )
    log_every: Free[Positive] = Field(
        10, description="Steps between flushes of metrics.jsonl, which has one line per step."
    )

    @model_validator(mode="after")
    def _schedule(self) -> "Train":
        if self.decay_epochs is not None and self.schedule != "wsd":
            raise ValueError(
                f"train.decay_epochs needs train.schedule wsd, and the schedule is {self.schedule}: leave "
                "it out"
            )
        if self.schedule != "constant" and self.warmup_epochs + (self.decay_epochs or 0) >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs {self.warmup_epochs:g}"
                + (f" and train.decay_epochs {self.decay_epochs:g} leave" if self.decay_epochs else " leaves")
                + f" nothing of train.epochs {self.epochs}: shorten the warm-up, or train longer"
            )
        return self

    @property
    def rate_depends_on_length(self) -> bool:
        """Whether a step's rate is another one in a longer run."""
        return self.schedule != "constant"
