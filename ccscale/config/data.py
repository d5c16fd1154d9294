"""Where the images come from, and the order they are read in."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from ccscale.config.section import Count, Fixed, Free, Names, PathText, Positive, Section, listed

MAX_LANES = 64

LossName = Literal["instance", "cluster"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
LossNames = Annotated[tuple[LossName, ...], BeforeValidator(listed)]


class Phase(Section):
    """A part of an epoch: one pass over some splits, with some of the losses."""

    splits: Names = Field(min_length=1, description="Splits that it goes over, together.")
    losses: LossNames = Field(LOSSES, min_length=1, description="Losses that train the network.")


class Data(Section):
    """Where the images come from and the order they are read in."""

    shards: Free[PathText | None] = Field(  # the data may have been moved; their digest is compared
        None,
        description="Folder (or fsspec URL, as https://… or s3://…) with shards and their dataset.json. S3 takes "
        "endpoint and keys from AWS's own variables and files (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …). "
        "This key or features must be given.",
    )
    features: Free[PathText | None] = Field(
        None,
        description="In place of shards: a feature store of them, as `ccscale embed` makes it. The heads are "
        "trained on it, in the order that the shards would have; backbone and views are the store's.",
    )
    splits: Fixed[Names] = Field(("train",), min_length=1, description="Splits to train on, together.")
    phases: Fixed[tuple[Phase, ...] | None] = Field(
        None,
        min_length=1,
        description="In place of splits: the phases of an epoch, one after the other, as [{splits: [unlabelled], "
        "losses: [instance]}, {splits: [train, test]}]; losses are both by default.",
    )
    refresh: Free[Literal["epoch"] | Positive | None] = Field(
        None,
        description="For shards that grow while a run trains: when the manifest, or the store, is read again, and "
        "what is new is taken in. epoch: where an epoch ends. A number: after every so many steps; what is new "
        "ends the epoch then, and train.max_steps is needed. null: never, and grown data are refused.",
    )
    vanished: Free[Literal["tell", "retire"]] = Field(
        "tell",
        description="With refresh, what is done about shards that are not listed any more. tell: they are told of "
        "and read as before; where they are gone, the run is saved and stops. retire: they are left out.",
    )
    workers: Free[Count | None] = Field(
        None,
        description="Loader processes per rank; by default up to 32: one for each of the rank's cores but one.",
    )
    prefetch: Free[Positive] = Field(2, description="Batches that each worker holds ready.")
    lanes: Fixed[Positive | None] = Field(
        None,
        description="Parallel streams that a global batch is put together from. Every number of ranks to be "
        f"used must divide it. By default the largest divisor of the global batch up to {MAX_LANES}.",
    )
    piece: Fixed[Positive | None] = Field(
        None,
        description="Samples in the pieces that an epoch permutes; by default one in small data, 4 or more in "
        "larger data, a whole shard in the largest.",
    )
    block: Fixed[Positive | None] = Field(
        None,
        description="Samples that a lane shuffles among each other; by default as many as block_bytes hold of "
        "mean size, up to 1024.",
    )
    block_bytes: Fixed[int] = Field(
        16 * 2**20,
        ge=2**16,
        description="What a lane's shuffle block weighs at most. Of remote shards a worker holds, for each of its "
        "lanes, the block in use and the one that comes next: at most twice this, beside what its requests "
        "hold (`ccscale plan` reckons with both).",
    )
    retry_seconds: Free[float] = Field(
        300.0,
        gt=0,
        le=1500,  # below the half hour that ranks wait for each other
        description="A remote shard that cannot be read is tried again for this long; then the run is saved and "
        "stops.",
    )
    cache: Free[PathText | None] = Field(
        None,
        description="Folder on a local disk, shared by all processes of a machine, that keeps what was read of "
        "remote shards.",
    )
    cache_bytes: Free[int] = Field(
        64 * 2**30,
        ge=16 * 2**20,
        description="What the cache holds at most; what was not used for longest goes.",
    )
    max_bad_samples: Free[Count] = Field(
        100, description="Images that cannot be decoded are skipped by name, up to this many in a run."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.shards is None) == (self.features is None):
            given = "both are given (data.shards=null leaves one out)" if self.shards else "neither is given"
            raise ValueError(
                "it takes either data.shards, a folder of shards, or data.features, a feature store that `ccscale "
                f"embed` made of them, and {given}"
            )
        return self

    @property
    def place(self) -> str:
        """The folder or URL of the shards, or the folder of the store."""
        return str(self.shards if self.features is None else self.features)

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
