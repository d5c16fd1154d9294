"""The config of a run: every key is documented and checked here and nowhere else.

A config is a YAML file (`config_file.py`) with the sections below.

    shards: DIR            data:     where the images come from, the order they are read in
    run: DIR               views:    what a random view of an image is
    seed: 0                model:    backbone and heads
                           loss:     temperatures, weights
                           train:    batch, epochs, optimizer, precision, checkpoints, logs
                           evaluate: when and on what
"""

from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from ccscale.config.divisors import divisors, largest_divisor, nearest_divisors
from ccscale.errors import InputError

MAX_LANES = 64
MOST_CLASSES = 2**20  # that images are sorted into, as clusters or by their labels

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PathText = Annotated[str, AfterValidator(expanduser)]
"""A path, or a URL: ``~`` in front is the home folder."""
LossName = Literal["instance", "cluster"]
LOSSES: tuple[LossName, ...] = get_args(LossName)


def _listed(value: Any) -> Any:
    """Take one name for a list of one."""
    if not isinstance(value, str):
        return value
    if "," in value:
        raise ValueError(
            f"several names are a list: [{', '.join(part.strip() for part in value.split(','))}]"
        )
    return [value]


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
LossNames = Annotated[tuple[LossName, ...], BeforeValidator(_listed)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Phase(Section):
    """A part of an epoch: one pass over some splits, with some of the losses."""

    splits: Names = Field(min_length=1, description="Splits that it goes over, together.")
    losses: LossNames = Field(LOSSES, min_length=1, description="Losses that train the network.")


class Data(Section):
    """Where the images come from and the order they are read in."""

    shards: PathText = Field(
        description="Folder (or fsspec URL, as https://… or s3://…) with shards and their dataset.json. S3 takes "
        "endpoint and keys from AWS's own variables and files (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …)."
    )
    splits: Names = Field(("train",), min_length=1, description="Splits to train on, together.")
    phases: tuple[Phase, ...] | None = Field(
        None,
        min_length=1,
        description="In place of splits: the phases of an epoch, one after the other, as [{splits: [unlabelled], "
        "losses: [instance]}, {splits: [train, test]}]; losses are both by default.",
    )
    workers: Count | None = Field(
        None, description="Loader processes per rank; by default up to 8, as the rank's cores allow."
    )
    prefetch: Positive = Field(2, description="Batches that each worker holds ready.")
    lanes: Positive | None = Field(
        None,
        description="Parallel streams that a global batch is put together from. Every number of ranks to be "
        f"used must divide it. By default the largest divisor of the global batch up to {MAX_LANES}.",
    )
    piece: Positive | None = Field(
        None,
        description="Samples in the pieces that an epoch permutes; by default one in small data, 4 or more in "
        "larger data, a whole shard in the largest.",
    )
    block: Positive | None = Field(
        None,
        description="Samples that a lane shuffles among each other; by default as many as block_bytes hold of "
        "mean size, up to 1024.",
    )
    block_bytes: int = Field(
        16 * 2**20,
        ge=2**16,
        description="What a lane's shuffle block weighs at most. Of remote shards a worker holds, for each of its "
        "lanes, the block in use and the one that comes next: at most twice this, beside what its requests "
        "hold (`ccscale plan` reckons with both).",
    )
    retry_seconds: float = Field(
        300.0,
        gt=0,
        le=1500,  # below the half hour that ranks wait for each other
        description="A remote shard that cannot be read is tried again for this long; then the run is saved and "
        "stops.",
    )
    cache: PathText | None = Field(
        None,
        description="Folder on a local disk, shared by all processes of a machine, that keeps what was read of "
        "remote shards.",
    )
    cache_bytes: int = Field(
        64 * 2**30,
        ge=16 * 2**20,
        description="What the cache holds at most; what was not used for longest goes.",
    )
    max_bad_samples: Count = Field(
        100, description="Images that cannot be decoded are skipped by name, up to this many in a run."
    )

    @model_validator(mode="after")
    def _splits_of_phases(self) -> "Data":
        """Let `splits` be all that is trained on, also where there are phases."""
        if self.phases is not None:
            union = tuple(dict.fromkeys(split for phase in self.phases for split in phase.splits))
            if "splits" in self.model_fields_set and set(self.splits) != set(union):
                raise ValueError(
                    f"its phases go over the splits {', '.join(union)}, and its splits are "
                    f"{', '.join(self.splits)}: leave out one of the two (data.phases=null)"
                )
            object.__setattr__(self, "splits", union)
        return self


class Views(Section):
    """What a random view of an image is (paper, section 'Data augmentation'; torchvision's definitions)."""

    size: int = Field(224, ge=1, le=2**13, description="Side of a view, in pixels.")
    crop_scale: tuple[float, float] | None = Field(
        (0.08, 1.0),
        description="RandomResizedCrop: share of the image's area; null: the whole image, resized.",
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="RandomResizedCrop: width to height of the crop."
    )
    flip: Probability = Field(0.5, description="Probability of a horizontal flip.")
    rotate: float = Field(0.0, ge=0, le=180, description="RandomAffine: up to this many degrees either way.")
    translate: Probability = Field(0.0, description="RandomAffine: shift of up to this share of the side.")
    zoom: tuple[float, float] = Field((1.0, 1.0), description="RandomAffine: range of the scale.")
    jitter: Probability = Field(0.8, description="Probability of the colour jitter.")
    strength: float = Field(0.5, ge=0, le=2, description="The s that multiplies the four jitter ranges.")
    brightness: float = Field(0.8, ge=0, description="ColorJitter's brightness, before the strength.")
    contrast: float = Field(0.8, ge=0, description="ColorJitter's contrast, before the strength.")
    saturation: float = Field(0.8, ge=0, description="ColorJitter's saturation, before the strength.")
    hue: float = Field(0.2, ge=0, le=0.5, description="ColorJitter's hue, before the strength.")
    grey: Probability = Field(0.2, description="Probability of the conversion to grey.")
    blur: Probability = Field(0.0, description="Probability of the Gaussian blur.")
    blur_kernel: Positive = Field(23, description="Side of the blur's kernel in pixels, an odd number.")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="Range of the blur's sigma in pixels.")
    raw: Literal[0, 1, 2] = Field(
        0,
        description="How many of the two views are the whole image as it is, only resized: the paper's ablation "
        "(Table 3). 1: the second view; 2: both.",
    )
    scaled_decode: bool = Field(
        True, description="Decode a JPEG at the smallest DCT scale that serves both crops: faster."
    )

    @field_validator("crop_scale", "crop_ratio", "zoom", "blur_sigma")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("must be two numbers above 0, the smaller one first")
        return value

    @field_validator("blur_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd; {value + 1} is the next")
        return value

    @model_validator(mode="after")
    def _ranges(self) -> "Views":
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError("crop_scale is a share of the image's area: at most 1")
        if self.hue * self.strength > 0.5:
            raise ValueError(f"hue * strength is {self.hue * self.strength:g}, and may be at most 0.5")
        if self.blur > 0 and self.blur_kernel // 2 >= self.size:
            raise ValueError(
                f"blur_kernel {self.blur_kernel} is too large for size {self.size}: "
                f"at most {2 * self.size - 1} (about a tenth of the size is usual)"
            )
        return self


class Model(Section):
    """Backbone and heads."""

    backbone: str = Field("resnet34", description="Any timm model that makes features (m, D) of images.")
    pretrained: bool = Field(
        False,
        description="Start from timm's pretrained weights. Only a run's beginning asks for them, not a resume.",
    )
    weights: PathText | None = Field(
        None,
        description="A .safetensors file with the backbone's weights to start from; read like those of pretrained.",
    )
    stem: Literal["standard", "small"] = Field(
        "standard",
        description="small: first convolution 3x3 with stride 1 and no pooling, for images under 96 pixels.",
    )
    drop_path: Probability | None = Field(
        None,
        description="Stochastic depth: probability that an image passes over a block, in the last block; null: the "
        "backbone's own default, which is 0 for most.",
    )
    dropout: Probability | None = Field(
        None, description="Probability of timm's drop_rate, most often of the features; null: as drop_path."
    )
    normalize: bool = Field(
        False, description="Subtract the backbone's own mean and divide by its deviation (pretrained ones)."
    )
    clusters: int = Field(ge=2, le=MOST_CLASSES, description="K, the number of clusters.")
    embedding: int = Field(128, ge=1, le=2**16, description="Width of the instance head's output.")

    @property
    def bare(self) -> "Model":
        """The same network without the weights to start from: for whom nothing is downloaded or read."""
        return self.model_copy(update={"pretrained": False, "weights": None})


class Loss(Section):
    """Temperatures (paper, section 'Implementation details') and weights of the two losses."""

    instance_temperature: float = Field(0.5, gt=0, description="Temperature of the instance loss.")
    cluster_temperature: float = Field(1.0, gt=0, description="Temperature of the cluster loss.")
    instance_weight: float = Field(
        1.0, ge=0, description="Weight of the instance loss; 0: it is not computed, and its head not trained."
    )
    cluster_weight: float = Field(
        1.0, ge=0, description="Weight of the cluster loss; 0: it is not computed, and its head not trained."
    )
    ring_bytes: Count = Field(
        2**30,
        description="Where the embeddings of the global batch are larger, they go round from rank to rank, and no "
        "rank holds all of them.",
    )


class Train(Section):
    """Batch, epochs, optimizer, precision, checkpoints and logs."""

    global_batch: int = Field(256, ge=2, description="Images in a step, over all ranks.")
    micro_batch: int | None = Field(
        None,
        ge=2,
        description="Images, over all ranks, that go through the network at a time, where the global batch does "
        "not fit the devices: a second forward pass for the same gradient. Batch norm then sees so many images; "
        "without batch norm it may change from start to start.",
    )
    epochs: Positive = Field(1000, description="Passes over the data.")
    max_steps: Positive | None = Field(None, description="Stop after this many steps, whatever the epochs.")
    start: PathText | None = Field(
        None,
        description="Begin with the network of another run, heads included, in place of model.pretrained and "
        "model.weights: RUN for its newest checkpoint, RUN@STEP, RUN@best. Optimizer and schedule begin anew.",
    )
    lr: float = Field(3e-4, gt=0, description="Adam's learning rate, constant.")
    weight_decay: float = Field(0.0, ge=0, description="Adam's weight decay (L2).")
    clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; null: not clipped.")
    precision: Literal["fp32", "bf16", "fp64"] = Field(
        "fp32",
        description="bf16: autocast over float32 weights, losses in float32. fp64: for checks on a CPU, "
        "needs zero 1 or 2.",
    )
    max_bad_steps: Count = Field(
        5,
        description="Steps in a row whose loss or gradient is not finite that are skipped; one more ends the run. "
        "They are told when the log is flushed (log_every).",
    )
    rank_timeout: float = Field(
        120.0,
        ge=1,
        description="Seconds without a sign of life, or in one place of a step while others wait for it, after "
        "which a rank counts as lost: then all end, with its name and exit code 76.",
    )
    zero: Literal[0, 1, 2] = Field(
        0,
        description="DeepSpeed's ZeRO stage; it may change from start to start: the checkpoint is converted.",
    )
    compile: bool = Field(
        False, description="Compile the backbone (torch.compile): slower to start, faster from then on."
    )
    profile: Positive | None = Field(
        None,
        description="Trace this many steps of each rank, after ten, into the run's folder profile/; "
        "ui.perfetto.dev shows them.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one.")
    save_every: Positive = Field(1000, description="Steps between checkpoints; the last step is saved too.")
    save_minutes: float | None = Field(
        15.0,
        gt=0,
        description="Minutes between checkpoints, where save_every steps take longer; null: by steps alone.",
    )
    keep_last: Positive = Field(
        2, description="The newest checkpoints are kept, and the best one by each measure of the evaluations."
    )
    keep_every: Positive | None = Field(
        None, description="Of every so many steps one checkpoint is kept for good."
    )
    log_every: Positive = Field(10, description="Steps between flushes of metrics.jsonl; a line is a step.")


class Evaluate(Section):
    """When and on what the clusters are measured."""

    every: Count = Field(0, description="Epochs between evaluations while training; 0: only at the end.")
    splits: Names | None = Field(
        None, description="By default the splits trained on; of several phases those of the last."
    )
    batch: Positive = Field(256, description="Images a rank takes at a time.")


class Config(Section):
    """All settings of a run."""

    run: PathText | None = Field(None, description="The run's folder: all that a resume needs.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of weights, order and views.")
    data: Data
    views: Views = Views()
    model: Model
    loss: Loss = Loss()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _lanes(self) -> "Config":
        lanes, batch = self.data.lanes, self.train.global_batch
        if lanes is not None and batch % lanes:
            raise ValueError(
                f"data.lanes {lanes} does not divide train.global_batch {batch}; the nearest that do are "
                + " and ".join(map(str, nearest_divisors(batch, lanes)))
            )
        micro = self.train.micro_batch
        if micro is not None and batch % micro:
            raise ValueError(
                f"train.micro_batch {micro} does not divide train.global_batch {batch}; the nearest that do are "
                + " and ".join(map(str, nearest_divisors(batch, micro)))
            )
        if self.train.precision == "fp64" and self.train.zero == 0:
            raise ValueError(
                "train.precision fp64 needs train.zero 1 or 2: DeepSpeed's ZeRO 0 refuses float64"
            )
        return self

    @model_validator(mode="after")
    def _losses(self) -> "Config":
        for number, phase in enumerate(self.phases, start=1):
            if not phase.losses:
                which = f" of phase {number} of data.phases" if self.data.phases else ""
                raise ValueError(
                    f"the losses{which} have all the weight 0: set loss.instance_weight or loss.cluster_weight "
                    "above 0"
                )
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of an epoch, each with the losses that are computed: those with a weight above 0."""
        weights = {"instance": self.loss.instance_weight, "cluster": self.loss.cluster_weight}
        phases = self.data.phases or (Phase(splits=self.data.splits),)
        return tuple(
            phase.model_copy(update={"losses": tuple(name for name in phase.losses if weights[name] > 0)})
            for phase in phases
        )

    @property
    def losses(self) -> frozenset[LossName]:
        """The losses that are computed in any phase."""
        return frozenset(name for phase in self.phases for name in phase.losses)

    @property
    def evaluated_splits(self) -> tuple[str, ...]:
        """The splits that the clusters are measured on."""
        return self.evaluate.splits or self.phases[-1].splits

    @property
    def lanes(self) -> int:
        """Number of lanes: follows from the config alone, never from the number of ranks."""
        return self.data.lanes or largest_divisor(self.train.global_batch, MAX_LANES)

    def check_ranks(self, ranks: int) -> None:
        """Check that a number of ranks can share the lanes and the micro-batches.

        Raises
        ------
        InputError
            With the numbers that can.
        """
        if self.lanes % ranks:
            raise InputError(
                f"{ranks} ranks do not divide the {self.lanes} lanes of this run; start "
                f"{', '.join(map(str, divisors(self.lanes)))} ranks, or set data.lanes and train.global_batch to "
                f"multiples of {ranks}"
            )
        if (self.train.micro_batch or 0) % ranks:
            raise InputError(
                f"{ranks} ranks do not divide train.micro_batch {self.train.micro_batch}: set it to a multiple of "
                f"{ranks}"
            )

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches that the global batch goes through the network in."""
        return self.train.global_batch // (self.train.micro_batch or self.train.global_batch)

    @property
    def run_folder(self) -> Path:
        """The run's folder.

        Raises
        ------
        InputError
            If the config has none.
        """
        if self.run is None:
            raise InputError("the config has no key 'run': add run=DIR, the folder that this run is kept in")
        return Path(self.run)

    def to_yaml(self) -> str:
        """Return the resolved config as YAML that `load_config` reads to the same config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
