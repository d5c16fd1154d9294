"""All settings of a run, and values derived from several sections."""

from pathlib import Path

import yaml
from pydantic import ConfigDict, Field, model_validator

from ccscale.config import rules
from ccscale.config.data import MAX_LANES, Data, LossName, Phase
from ccscale.config.divisors import divisors, largest_divisor
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

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where PyYAML was built with it


class Config(Section):
    """All settings of a run.

    Parameters
    ----------
    run : str, optional
        The run's folder.
    seed : int, default 0
        Random seed of weights, sample order and views.
    data : Data
        The data set, and how it is read.
    views : Views
        The augmentation of images.
    pairs : Pairs
        What a positive pair is.
    model : Model
        Backbone and heads.
    loss : Loss
        Temperatures and weights.
    train : Train
        Batch, epochs, optimizer, precision, checkpoints, logs.
    stages : Stages
        Stages after the training epochs.
    evaluate : Evaluate
        When and on which data the clusters are evaluated.
    log : Log
        Experiment trackers to log to.
    """

    model_config = ConfigDict(json_schema_extra={"description": "All settings of a run."})

    run: Free[PathText | None] = Field(
        None, description="Folder of the run: config, log and checkpoints, everything needed to resume."
    )
    seed: Fixed[int] = Field(0, ge=0, lt=2**32, description="Random seed of weights, sample order and views.")
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
    def _rules(self) -> "Config":
        rules.check_batch(self.data, self.train, self.model)
        rules.check_views(self.views, self.model, self.stages)
        rules.check_store(self.data, self.pairs, self.model)
        rules.check_losses(self.phases, self.data, self.model)
        rules.check_boost(self.stages, self.losses, self.data, self.model)
        rules.check_growing(self.data, self.train, self.pairs, self.model, self.stages)
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
            raise InputError("the config has no key 'run': add run=DIR, the folder for this run")
        return Path(self.run)

    def to_yaml(self) -> str:
        """Return the config as YAML, with all its defaults.

        Returns
        -------
        str
            What `load_config` reads to the same config.
        """
        return yaml.dump(self.model_dump(mode="json"), Dumper=_DUMPER, sort_keys=False)
