"""``ccscale update``: assigns new images to living clusters, shard by shard, each exactly once.

::

    embed       the new shards with the clusters' own network, into a store; or use an existing store
    examine     a sample of them together (`new_images.py`)
    assign      shard by shard, on all ranks, one table each
    remember    some of each cluster, and unassigned ones
    propose     births, merges, splits, each with a picture
    commit      a version

Running it again without new images makes no version.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ccscale import dist
from ccscale.clusters.draft import exclusive_writer
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.proposal import KINDS
from ccscale.clusters.updater import Updater
from ccscale.data.shards.shard_watch import ShardWatch
from ccscale.embed.embed import open_images
from ccscale.errors import InputError, did_you_mean
from ccscale.evaluate.follow_shards import follow_shards
from ccscale.features.store import Features
from ccscale.preempt import StopRequest


@dataclass(frozen=True)
class UpdateOptions:
    """Options of an update.

    Attributes
    ----------
    shards, features
        Shards, or an existing store of them; one of the two.
    splits
        Splits of these; default all.
    follow, idle
        Also wait for new shards, until stopped or none has appeared for this many seconds.
    apply
        Kinds of proposals to accept at once: birth, merge, split.
    reassign
        Reassign all images at the end.
    """

    shards: str | None = None
    features: str | None = None
    splits: Sequence[str] | None = None
    follow: bool = False
    idle: float | None = None
    apply: Sequence[str] = ()
    reassign: bool = False

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises
        ------
        InputError
            With the remedy.
        """
        if self.shards is not None and self.features is not None:
            raise InputError("update needs either shards or a store: give one of --shards and --features")
        if self.follow and self.shards is None:
            raise InputError("--follow needs --shards: a store does not grow by itself")
        if self.idle is not None and not self.follow:
            raise InputError("--idle goes with --follow")
        for one in [self.apply] if isinstance(self.apply, str) else self.apply:
            if one not in KINDS:
                raise InputError(
                    f"apply: {one!r} is not a kind of proposal{did_you_mean(one, KINDS)}; give a list of "
                    f"these: {', '.join(KINDS)}"
                )


def update_run(
    run: str | Path,
    asked: UpdateOptions,
    *,
    device: str = "auto",
    workers: int | None = None,
    request: StopRequest | None = None,
) -> list[int]:
    """Assign new images; all ranks call it together, within `exclusive_writer` or not.

    Parameters
    ----------
    run : str or Path
        The run's folder.
    asked : Asked
        What is new.
    device : str, default "auto"
        See ``train.device``.
    workers : int, optional
        See ``data.workers``.
    request : StopRequest, optional
        To stop following, of a caller who has begun to listen.

    Returns
    -------
    list of int
        The new versions; none if nothing is new.

    Raises
    ------
    InputError
        If there are no living clusters, the data are not there, or the store is of another backbone.
    Fault
        If it cannot be written.
    """
    request = StopRequest() if request is None else request
    dist.on_rank_zero(asked.check)
    with exclusive_writer(run, device, request) as where, Updater(run, where, workers, request) as update:
        if asked.features is not None:
            place = Path(asked.features)
            update.with_store(dist.on_rank_zero(lambda: Features(place, asked.splits)))
        elif asked.shards is not None and asked.follow:
            for found in follow_shards(ShardWatch(asked.shards, asked.splits), request, asked.idle):
                update.with_shards(found)
                update.decide(asked.apply, again=False)
        elif asked.shards is not None:
            manifest, splits = open_images(asked.shards, asked.splits)
            update.with_shards(replace(manifest, shards=tuple(manifest.select(splits))))
        update.decide(asked.apply, asked.reassign)
        return update.versions


def alarms_of(run: str | Path, versions: Sequence[int]) -> list[str]:
    """Return the alarms of some versions' shards, as sentences."""
    lineage = open_lineage(run)
    return [f"{place}: {why}" for one in versions for place, why in lineage.version(one).alarms.items()]
