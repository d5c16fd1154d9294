"""The data set, and how it is read."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from ccscale.config.section import Count, Fixed, Free, Names, PathText, Positive, Section, listed

MAX_LANES = 64

LossName = Literal["instance", "cluster"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
LossNames = Annotated[tuple[LossName, ...], BeforeValidator(listed)]


class Phase(Section):
    """A part of an epoch: one pass over some splits, with some of the losses."""

    splits: Names = Field(min_length=1, description="Splits to go over, mixed together.")
    losses: LossNames = Field(LOSSES, min_length=1, description="Losses to train with in this phase.")


class Data(Section):
    """The data set, and how it is read."""

    shards: Free[PathText | None] = Field(  # the data may have been moved; their digest is compared
        None,
        description="Folder or fsspec URL (https://…, s3://…) that holds the shards and their dataset.json. "
        "For S3, set the endpoint and credentials in the usual AWS variables or files (AWS_ENDPOINT_URL, "
        "AWS_ACCESS_KEY_ID, …). Exactly one of shards and features is required.",
    )
    features: Free[PathText | None] = Field(
        None,
        description="Feature store written by `ccscale embed`, instead of shards: only the heads are trained, "
        "on stored features, in the same sample order. Backbone and views are those of the store.",
    )
    splits: Fixed[Names] = Field(("train",), min_length=1, description="Splits to train on, mixed together.")
    phases: Fixed[tuple[Phase, ...] | None] = Field(
        None,
        min_length=1,
        description="Instead of splits: the phases of an epoch, run in this order, for example [{splits: "
        "[unlabelled], losses: [instance]}, {splits: [train, test]}]. A phase without losses uses both.",
    )
    refresh: Free[Literal["epoch"] | Positive | None] = Field(
        None,
        description="For shards that grow during a run: when to reread the manifest (or store) and add new "
        "samples. epoch: at the end of each epoch. An integer N: every N steps; new samples then end the epoch "
        "early, and train.max_steps is required. null: never; a data set that has grown is then an error.",
    )
    vanished: Free[Literal["tell", "retire"]] = Field(
        "tell",
        description="With refresh: what to do about shards that are no longer listed. tell: warn and keep "
        "reading them; if their files are gone, save a checkpoint and stop. retire: leave them out from then "
        "on.",
    )
    workers: Free[Count | None] = Field(
        None,
        description="Loader processes per rank. null: one per CPU core of the rank except one, at most 32.",
    )
    prefetch: Free[Positive] = Field(2, description="Batches that each loader process prepares ahead.")
    lanes: Fixed[Positive | None] = Field(
        None,
        description="Parallel sample streams that are combined into a global batch. The number of ranks must "
        f"divide it. null: the largest divisor of the global batch up to {MAX_LANES}.",
    )
    piece: Fixed[Positive | None] = Field(
        None,
        description="Consecutive samples that stay together when an epoch is permuted. null: 1 for small data "
        "sets, 4 or more for larger ones, a whole shard for the largest.",
    )
    block: Fixed[Positive | None] = Field(
        None,
        description="Samples in the shuffle buffer of a lane. null: as many as fit block_bytes at the mean "
        "sample size, at most 1024.",
    )
    block_bytes: Fixed[int] = Field(
        16 * 2**20,
        ge=2**16,
        description="Size limit of a lane's shuffle buffer, in bytes. For remote shards, a worker holds the "
        "current and the next buffer of each of its lanes: up to twice this, plus requests in flight. `ccscale "
        "plan` includes both.",
    )
    retry_seconds: Free[float] = Field(
        300.0,
        gt=0,
        le=1500,  # below the half hour that ranks wait for each other
        description="Seconds to retry a remote shard that cannot be read, before the run saves a checkpoint "
        "and stops.",
    )
    cache: Free[PathText | None] = Field(
        None,
        description="Folder on a local disk that caches remote shards, shared by all processes of the machine. "
        "null: no cache.",
    )
    cache_bytes: Free[int] = Field(
        64 * 2**30,
        ge=16 * 2**20,
        description="Size limit of the cache, in bytes. The least recently used parts are evicted first.",
    )
    max_bad_samples: Free[Count] = Field(
        100,
        description="Images that may fail to decode in a run. Each is replaced by another sample and logged by "
        "key; one more than this stops the run.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.shards is None) == (self.features is None):
            given = "both are given (data.shards=null leaves one out)" if self.shards else "neither is given"
            raise ValueError(
                "either data.shards, a folder of shards, or data.features, a feature store made by "
                f"`ccscale embed`, is needed, and {given}"
            )
        return self

    @property
    def place(self) -> str:
        """The folder or URL of the shards, or the folder of the store."""
        return str(self.shards if self.features is None else self.features)

    @model_validator(mode="after")
    def _splits_of_phases(self) -> "Data":
        """Set `splits` to the union of the phases' splits, if there are phases."""
        if self.phases is not None:
            union = tuple(dict.fromkeys(split for phase in self.phases for split in phase.splits))
            if "splits" in self.model_fields_set and set(self.splits) != set(union):
                raise ValueError(
                    f"its phases use the splits {', '.join(union)}, but its splits are "
                    f"{', '.join(self.splits)}: leave one of them out (data.phases=null)"
                )
            object.__setattr__(self, "splits", union)
        return self
