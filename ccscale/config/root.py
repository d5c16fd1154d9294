"""All settings of a run, and what follows from several sections."""

from pathlib import Path

import yaml
from pydantic import ConfigDict, Field, model_validator

from ccscale.config.data import MAX_LANES, Data, LossName, Phase
from ccscale.config.divisors import divisors, largest_divisor, nearest_divisors
from ccscale.config.evaluate import Evaluate
from ccscale.config.log import Log
from ccscale.config.loss import Loss
from ccscale.config.model import Model
from ccscale.config.pairs import Pairs
from ccscale.config.section import Fixed, Free, PathText, Section
from ccscale.config.stages import Stages
from ccscale.config.train import Train
from ccscale.config.views import Views
from ccscale.errors import InputError


class Config(Section):
    """All settings of a run.

    Parameters
    ----------
    run : str, optional
        The run's folder.
    seed : int, default 0
        Of weights, order and views.
    data : Data
        The images, and the order they are read in.
    views : Views
        What a random view of an image is.
    pairs : Pairs
        What the two halves of a pair are.
    model : Model
        Backbone and heads.
    loss : Loss
        Temperatures and weights.
    train : Train
        Batch, epochs, optimizer, precision, checkpoints, logs.
    stages : Stages
        What a run goes through after its training epochs.
    evaluate : Evaluate
        When and on what the clusters are measured.
    log : Log
        What its figures are also sent to.
    """

    model_config = ConfigDict(json_schema_extra={"description": "All settings of a run."})

    run: Free[PathText | None] = Field(None, description="The run's folder: all that a resume needs.")
    seed: Fixed[int] = Field(0, ge=0, lt=2**32, description="Of weights, order and views.")
    data: Data
    views: Views = Views()
    pairs: Pairs = Pairs()
    model: Model
    loss: Loss = Loss()
    train: Train = Train()
    stages: Stages = Stages()
    evaluate: Evaluate = Evaluate()
    log: Log = Log()

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
        if self.train.compile and self.model.grad_checkpointing:
            raise ValueError(
                "train.compile and model.grad_checkpointing exclude each other: a compiled backbone decides itself "
                "what is made again"
            )
        return self

    @model_validator(mode="after")
    def _pairs(self) -> "Config":
        if self.pairs.of == "views" and self.pairs.neighbours is not None:
            raise ValueError("pairs.neighbours goes with pairs.of neighbours or both, and pairs.of is views")
        if self.pairs.of != "views" and self.data.features is None:
            raise ValueError(
                f"pairs.of is {self.pairs.of}, and neighbours are kept in a feature store: give data.features in "
                "place of data.shards (`ccscale embed SHARDS STORE --neighbours 50` makes one)"
            )
        return self

    @model_validator(mode="after")
    def _head_input(self) -> "Config":
        if self.model.head_input == "centred" and self.data.features is None:
            raise ValueError(
                "model.head_input is centred, by the mean of a feature store: give data.features in place of "
                "data.shards (`ccscale embed SHARDS STORE` makes one), or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _begin(self) -> "Config":
        if self.model.begin and self.data.features is None:
            raise ValueError(
                f"model.begin is {', '.join(self.model.begin)}, clusters of a feature store: give data.features in "
                "place of data.shards (`ccscale embed SHARDS STORE --neighbours 25` makes one), or leave it out"
            )
        if self.model.begin and "cluster" not in self.losses:
            raise ValueError(
                "model.begin is what cluster heads begin from, and none is trained: set loss.cluster_weight above "
                "0, or leave model.begin out"
            )
        return self

    @model_validator(mode="after")
    def _centres(self) -> "Config":
        if self.model.centres and self.data.features is None:
            raise ValueError(
                f"model.centres is {', '.join(self.model.centres)}, and centres are found in a feature store: give "
                "data.features in place of data.shards (`ccscale embed SHARDS STORE` makes one), or leave it out"
            )
        of_embeddings = [kind for kind in self.model.centres if kind != "features"]
        if of_embeddings and "instance" not in self.losses:
            raise ValueError(
                f"model.centres has {of_embeddings[0]}, and the head that makes embeddings is not trained: set "
                f"loss.instance_weight above 0, or leave {of_embeddings[0]} out"
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

    @model_validator(mode="after")
    def _stages(self) -> "Config":
        if not self.stages.boost.epochs:
            return self
        if "cluster" not in self.losses:
            raise ValueError(
                "stages.boost trains a cluster head by its own labels, and none is trained: set "
                "loss.cluster_weight above 0, or stages.boost.epochs to 0"
            )
        if len(self.model.trained_clusters) > 1:
            raise ValueError(
                f"stages.boost labels by one cluster head, and there are {len(self.model.trained_clusters)}: set "
                "model.heads to 1 and model.clusters to one number, or stages.boost.epochs to 0"
            )
        if self.data.phases is not None and len(self.data.phases) > 1:
            raise ValueError(
                f"stages.boost takes epochs of one phase, and data.phases has {len(self.data.phases)}: set "
                "stages.boost.epochs to 0 and begin another run with it (train.start)"
            )
        return self

    @model_validator(mode="after")
    def _growing(self) -> "Config":
        """Refuse what has no meaning, or no length, where data grow."""
        data, train = self.data, self.train
        if data.refresh is None:
            return self
        of_neighbours = [kind for kind in self.model.begin if kind != "features"]
        if self.pairs.of != "views" or of_neighbours:
            what = f"pairs.of is {self.pairs.of}"
            if self.pairs.of == "views":
                what = f"model.begin is {', '.join(self.model.begin)}"
            raise ValueError(
                f"data.refresh takes in features that are new, and {what}, which needs neighbours: a store that "
                "grows has none until they are found anew. Set data.refresh to null, or "
                + ("pairs.of to views" if self.pairs.of != "views" else "model.begin to [features]")
            )
        if data.vanished == "retire" and (data.features is not None or self.stages.boost.epochs):
            why = "a feature store keeps all that it was made of"
            if data.features is None:
                why = "stages.boost compares its clusters on the images that it began with"
            raise ValueError(f"data.vanished is retire, and {why}: set it to tell")
        if self.stages.boost.epochs and (data.refresh != "epoch" or train.max_steps is not None):
            raise ValueError(
                "stages.boost counts in epochs, which data that grow make longer: set data.refresh to epoch and "
                "train.max_steps to null, or stages.boost.epochs to 0"
            )
        if train.max_steps is None and (train.rate_depends_on_length or data.refresh != "epoch"):
            why = f"train.schedule {train.schedule} needs to know how long the run is"
            if not train.rate_depends_on_length:
                why = f"data.refresh {data.refresh} may end epochs before they are over"
            raise ValueError(
                f"{why}, and epochs become longer as the data grow: say it in steps (train.max_steps)"
            )
        return self

    @property
    def boost_lr(self) -> float:
        """The learning rate of the self-labelling; see its key."""
        heads_alone = self.data.features is not None or self.model.freeze == "all"
        return self.stages.boost.lr or self.train.lr * (1 if heads_alone else 0.1)

    @property
    def boost_cluster_weight(self) -> float:
        """The weight of the cluster loss in the self-labelling; see its key."""
        given = self.stages.boost.cluster_weight
        return float(self.pairs.of == "views") if given is None else given

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
    def has_clusters(self) -> bool:
        """Whether there are clusters that mean something: of a head that is trained, or found."""
        return "cluster" in self.losses or bool(self.model.centres)

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

        Parameters
        ----------
        ranks : int
            At least 1.

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
        """Return the config as YAML, with all its defaults.

        Returns
        -------
        str
            What `load_config` reads to the same config.
        """
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
