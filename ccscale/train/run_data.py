"""The data of a run: shards, or a feature store of them, both of which may grow while it trains.

::

    step     ... 398   399 | 400   401 ...            data.refresh: 100
    rank 0            reads the manifest, compares, records new shards in RUN/intakes
    all ranks         receive them, and compute the schedule from step 400 on

A decision is written to disk before the first batch that depends on it (`checkpoint/intake_files.py`) and is
never made again, so a resumed run has the batches of an uninterrupted one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ccscale.checkpoint.intake_files import KeptIntakes, read_intakes
from ccscale.checkpoint.run import read_facts
from ccscale.config import Config
from ccscale.data.order.growing import GrowingSchedule
from ccscale.data.order.run import make_growing_schedule
from ccscale.data.shards.intakes import Comparison, Intakes, ListedShard, compare
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import InputError
from ccscale.features.store import Features
from ccscale.features.store_config import content_digest
from ccscale.wording import agree, counted

MOST_TRIED = 2000  # shards of a manifest in which the one is sought that a run was begun with


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes
    ----------
    config
        The run's.
    manifest, features
        As they were read last; the store, where the data are one, with all its rows.
    kept
        What the run has taken in.
    """

    config: Config
    manifest: Manifest
    features: Features | None
    kept: KeptIntakes

    @classmethod
    def fixed(cls, config: Config, manifest: Manifest, features: Features | None) -> "RunData":
        """Return the data as they are now, of a run that begins."""
        supply = cls(config, manifest, features, KeptIntakes.begin((), ""))
        return replace(supply, kept=KeptIntakes.begin(supply.listed(), supply.digest))

    @property
    def intakes(self) -> Intakes:
        """The shards added so far."""
        return self.kept.intakes

    @property
    def grows(self) -> bool:
        """Whether intakes are recorded: the data may grow, or have grown."""
        return self.config.data.refresh is not None or bool(self.kept.files)

    @property
    def digest(self) -> str:
        """The digest of the data as they are listed, which a run pins that begins now."""
        digest = self.manifest.digest(self.config.data.splits)
        return digest if self.features is None else f"{digest}/{content_digest(self.config, self.trained)}"

    @property
    def trained(self) -> Features:
        """The rows of the store that are trained on, as it is listed."""
        assert self.features is not None
        return self.features.at(self.config.data.splits)

    def listed(self) -> tuple[ListedShard, ...]:
        """Return the listed shards of the training splits."""
        if self.features is None:
            return tuple(map(ListedShard, self.manifest.select(self.config.data.splits)))
        return tuple(ListedShard(file.shard, file.sha256) for file in self.trained.files)

    def compare(self) -> Comparison:
        """Compare the list with the intakes; raises InputError if a shard has changed."""
        return compare(self.intakes, self.listed(), self.config.data.place)

    def schedule(self, ranks: int) -> GrowingSchedule:
        """Return the order of all that was taken in; raises InputError where it does not fit the config."""
        return make_growing_schedule(self.config, self.intakes.versions(), ranks)

    @cached_property
    def numbered(self) -> tuple[Manifest, Features | None]:
        """All that was taken in, whose samples have the numbers that the schedule knows; other splits as listed."""
        if not self.grows:
            return self.manifest, None if self.features is None else self.trained
        features = None if self.features is None else self._rows(self.intakes)
        return self.intakes.numbered(self.manifest), features

    def at(self, step: int) -> tuple[Manifest, Features | None]:
        """Return the active data at a step, counted from 0, and the other splits, for evaluation."""
        if not self.grows:
            return self.numbered
        intakes = self.intakes.until(step)
        return intakes.current(self.manifest), None if self.features is None else self._rows(intakes)

    def _rows(self, intakes: Intakes) -> Features:
        """Return the store with the rows of the intakes, in order, and those of other splits as listed."""
        assert self.features is not None
        files = {file.shard.url: file for file in self.features.files}
        splits = self.config.data.splits
        taken = [files[shard.url] for shard in intakes.shards]
        others = [file for file in self.features.files if file.shard.split not in splits]
        return self.features.holding([*taken, *others]).at(splits)


def open_run_data(config: Config, manifest: Manifest, features: Features | None) -> RunData:
    """Return the data of a run, as its folder knows them; on one rank. Nothing is written.

    Raises
    ------
    InputError
        If it is not what the run has taken in.
    """
    supply = RunData.fixed(config, manifest, None if features is None else features.whole)
    kept = None if config.run is None else read_intakes(config.run_folder)
    if kept is None and config.data.refresh is not None:
        manifest.check_files(config.data.splits if features is None else ())
        kept = _of_its_beginning(supply)
    if kept is None:
        return supply
    supply = replace(supply, kept=kept)
    found = supply.compare()
    if config.data.refresh is None and (found.new or found.vanished):
        news = [f"{counted(len(found.new), 'shard')} more"] if found.new else []
        if found.vanished:
            news.append(f"{counted(len(found.vanished), 'shard')} less, the first {found.vanished[0]}")
        raise InputError(
            f"the data in {config.data.place} have changed since the run took them in: "
            f"{' and '.join(news)}; set data.refresh (epoch, or a number of steps) to add new data"
        )
    check_kept(supply, found)
    return supply


def check_kept(supply: RunData, found: Comparison) -> None:
    """Check that a store still has the features that the run uses; raises InputError."""
    if supply.features is not None and found.vanished:
        raise InputError(
            f"{supply.features.folder} no longer has the features of {found.vanished[0]}, which the run "
            "uses: restore the store, or start a new run (run=DIR)"
        )


def check_store(before: RunData, now: RunData) -> None:
    """Check that a store is still made as it was; raises InputError."""
    if before.features is None or now.features is None:
        return
    made = [(store.settings, store.width) for store in (before.features, now.features)]
    if made[0] != made[1]:
        raise InputError(
            f"{now.features.folder} was recreated with another backbone, size or views: restore the "
            "store, or start a new run (run=DIR)"
        )


def missing_shards(supply: RunData) -> tuple[str, ...]:
    """Return the urls of shards that give samples and whose files are not there, where they may be retired.

    Raises
    ------
    InputError
        If they may not be (`data.vanished`).
    """
    if supply.features is not None or not supply.kept.files:
        return ()
    active = (source.shard for source in supply.intakes.active)
    missing = tuple(shard.url for shard in active if supply.manifest.problem_of(shard) is not None)
    if missing and supply.config.data.vanished != "retire":
        raise InputError(
            f"{supply.config.data.place}: {counted(len(missing), 'shard')} that the run uses "
            f"{agree(len(missing), 'is', 'are')} missing, the first is {missing[0]}: restore "
            f"{agree(len(missing), 'it', 'them')}, or continue without (data.vanished=retire)"
        )
    return missing


def keep_run_data(supply: RunData) -> KeptIntakes:
    """Write the intakes of a run that starts, or starts to grow; on one rank that holds the folder's lock."""
    folder = supply.config.run_folder
    kept = read_intakes(folder)
    if kept is None:
        return supply.kept.kept(folder)
    if kept != supply.kept:
        raise InputError(
            f"another process has meanwhile continued {folder}: run the same command again to continue"
        )
    return kept


def _of_its_beginning(supply: RunData) -> KeptIntakes | None:
    """Return the first intake of a run that did not grow: the start of the list with its digest."""
    config = supply.config
    if config.run is None or not (config.run_folder / "run.json").exists():
        return supply.kept
    wanted = read_facts(config.run_folder)["data"]
    listed: Sequence[ListedShard] = supply.listed()
    for count in range(len(listed), max(0, len(listed) - MOST_TRIED), -1):
        earlier = _earlier(supply, listed[:count])
        if earlier.digest == wanted:
            return KeptIntakes.begin(listed[:count], wanted)
    return supply.kept  # which is refused where it is not that of the run


def _earlier(supply: RunData, listed: Sequence[ListedShard]) -> RunData:
    """Return the data as they were when so much was listed."""
    splits, urls = supply.config.data.splits, {source.shard.url for source in listed}
    if supply.features is not None:
        files = [file for file in supply.features.files if file.shard.url in urls]
        features = supply.features.holding(files)
        return replace(supply, features=features, manifest=features.manifest)
    shards = tuple(
        shard for shard in supply.manifest.shards if shard.split not in splits or shard.url in urls
    )
    return replace(supply, manifest=replace(supply.manifest, shards=shards))
