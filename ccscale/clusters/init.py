"""``ccscale lineage init``: a run's clusters become version 1, with the ids that the network gives them.

The run's own images get the clusters of the network; the centres and distances that apply to later images are
computed from them, without labels.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccscale import dist
from ccscale.array_types import Float32, Int64
from ccscale.checkpoint.lock import FolderLock
from ccscale.clusters.data_sets import name_data, store_of
from ccscale.clusters.draft import Draft, begin_draft, disk_errors_as_fault, finish_interrupted
from ccscale.clusters.initial_state import make_initial_state
from ccscale.clusters.lineage import CURRENT, Lineage, clusters_of, numbers_of, open_lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.naming import carry_names
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.shard_tables import NewShard, ShardAssignments, ShardRows, write_tables
from ccscale.clusters.state import State
from ccscale.clusters.version import (
    NETWORK,
    ROW_BITS,
    DataSet,
    Event,
    Kept,
    NetworkBasis,
    TableFile,
    Version,
    counts,
)
from ccscale.config import Views
from ccscale.data.shards.hashing import hash_file
from ccscale.embed.embed import BackboneSource, EmbedOptions, growing_store, open_images
from ccscale.errors import InputError
from ccscale.evaluate.basis import weights_of
from ccscale.evaluate.feature_subset import choose_rows
from ccscale.evaluate.opened_run import OpenedRun, open_run
from ccscale.evaluate.reliability import assign_features
from ccscale.features.store import Features
from ccscale.model.export import WEIGHTS, copy_export
from ccscale.model.network import ContrastiveClustering
from ccscale.preempt import StopRequest
from ccscale.progress import say
from ccscale.wording import counted


@dataclass(frozen=True)
class NetworkAssignments:
    """The network's own assignments: every image has a cluster."""

    ids: Int64
    confidence: Float32

    @property
    def reasons(self) -> Sequence[None]:
        """No image is unassigned."""
        return [None] * len(self.ids)


def found_clusters(
    run: str | Path,
    *,
    splits: Sequence[str] | None = None,
    checkpoint: str = "last",
    clusters: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    request: StopRequest | None = None,
) -> Lineage | None:
    """Found living clusters of a run; all ranks call it together.

    Parameters
    ----------
    run : str or Path
        The run's folder.
    splits : sequence of str, optional
        Splits of its own images; default those that it was trained on.
    checkpoint : str, default "last"
        Which one; see `checkpoint.choose`.
    clusters : int, optional
        K, if the network has heads for several; default the first.
    device : str, default "auto"
        See ``train.device``.
    workers : int, optional
        See ``data.workers``.
    request : StopRequest, optional
        To stop waiting for other ranks.

    Returns
    -------
    Lineage or None
        On rank 0, with version 1 as its current one. None elsewhere.

    Raises
    ------
    InputError
        If it is no run, has living clusters already, or its images are not there.
    Fault
        If they cannot be written.
    """
    folder = clusters_of(run)
    with (
        FolderLock(folder) as lock,
        open_run(run, device, workers, checkpoint, request, heads_alone=True, clusters=clusters) as opened,
    ):
        dist.on_rank_zero(lock.create)
        if not dist.on_rank_zero(lambda: _is_founded(folder)):
            _found(folder, opened, splits, device, workers)
        return open_lineage(run) if dist.rank() == 0 else None


def _is_founded(folder: Path) -> bool:
    """Complete an interrupted command; return whether nothing remains to be done."""
    if finish_interrupted(folder) is not None:
        return True
    if (folder / CURRENT).exists():
        there = counted(len(numbers_of(folder)), "version")
        raise InputError(
            f"{folder.parent} already has living clusters ({there}): add new images with `ccscale update "
            f"{folder.parent} --shards NEW`"
        )
    return False


def _found(
    folder: Path, opened: OpenedRun, splits: Sequence[str] | None, device: str, workers: int | None
) -> None:
    config = opened.config
    splits = tuple(splits or config.data.splits)
    basis = dist.on_rank_zero(
        lambda: NetworkBasis(
            step=opened.checkpoint.step, weights=weights_of(opened.checkpoint), head=opened.network.serving
        )
    )
    asked = f"init of step {basis.step}, head {basis.head}, splits {', '.join(splits)}; {basis.weights}"
    draft = dist.on_rank_zero(lambda: begin_draft(folder, "init", asked))
    dist.on_rank_zero(lambda: _copy_network(draft, opened))
    features, data, store = _own_features(draft, opened, basis, splits, device, workers)
    if features.views and dist.rank() == 0:
        say(
            "each image gets the cluster of the image itself, as new ones will; the run's own table averages over "
            f"{features.views} random views too, so a few images have another cluster there"
        )
    shards = [
        NewShard(number, data.name, store, features.folder, file)
        for number, file in enumerate(file for file in features.files if file.rows)
    ]
    network, seed = opened.network, config.seed

    def answer(rows: ShardRows) -> tuple[ShardAssignments, dict[str, Any]]:
        return NetworkAssignments(*assign_features(network, rows.features)), {}

    tables = write_tables(draft, shards, answer)
    dist.on_rank_zero(lambda: _commit(draft, basis, features, data, shards, tables, network, seed))


def _copy_network(draft: Draft, opened: OpenedRun) -> None:
    """Copy the network of the clusters, since the run may be trained further."""
    with disk_errors_as_fault(draft.folder):
        shutil.rmtree(draft.folder / NETWORK, ignore_errors=True)
        copy_export(
            opened.checkpoint.path, draft.folder / NETWORK, opened.checkpoint.heads, opened.network.serving
        )


def _own_features(
    draft: Draft,
    opened: OpenedRun,
    basis: NetworkBasis,
    splits: tuple[str, ...],
    device: str,
    workers: int | None,
) -> tuple[Features, DataSet, str]:
    """Return the features of the run's own images, their data set, and the folder of the store."""
    config = opened.config
    if config.data.features is not None:
        place = Path(config.data.features)
        features = dist.on_rank_zero(lambda: Features(place, splits))
        listing = features.listing
        data = dist.on_rank_zero(
            lambda: name_data(draft.clusters, (), (), listing.data.name, listing.data.root, features.shards)
        )
        return features, data, str(place.absolute())
    root = config.data.place
    manifest, splits = open_images(root, splits)
    data = dist.on_rank_zero(lambda: name_data(draft.clusters, (), (), manifest.name, root, manifest.shards))
    folder = store_of(draft.clusters, data.name)
    dist.on_rank_zero(lambda: folder.parent.mkdir(exist_ok=True))
    wanted = EmbedOptions(view_settings=Views(scaled_decode=config.views.scaled_decode))
    source = BackboneSource(run=str(draft.folder / NETWORK), origin=basis.origin)
    with growing_store(folder, source, wanted, root, device=device, workers=workers) as store:
        store.grow(manifest, splits)
    features = dist.on_rank_zero(lambda: Features(folder, splits))
    return features, data, str(folder.relative_to(draft.clusters))


def _measure(
    features: Features, shards: Sequence[NewShard], network: ContrastiveClustering, seed: int
) -> tuple[State, Reservoir, Pool]:
    """Compute state, reservoir and pool from a sample of the run's own images."""
    good = np.flatnonzero(~features.bad)
    if not len(good):
        raise InputError(f"no image in {features.folder} has features: there is nothing to found clusters on")
    chosen = good[choose_rows(len(good), seed)]
    firsts = np.cumsum([0, *(shard.file.rows for shard in shards)])
    of_shard = np.searchsorted(firsts, chosen, side="right") - 1  # which is the number of its table
    refs = (of_shard << ROW_BITS) | (chosen - firsts[of_shard])
    rows = features.take(chosen)
    return make_initial_state(rows, *assign_features(network, rows), refs, k=network.k, seed=seed)


def _commit(
    draft: Draft,
    basis: NetworkBasis,
    features: Features,
    data: DataSet,
    shards: Sequence[NewShard],
    tables: Sequence[TableFile],
    network: ContrastiveClustering,
    seed: int,
) -> None:
    """Build the memory of the assigned images, and write the version."""
    memory = Memory(*_measure(features, shards, network, seed))
    for shard, table in zip(shards, tables, strict=True):
        memory = memory.after(draft, shard, table, network, seed)
    files = {NETWORK: Kept(version=draft.number, sha256=hash_file(draft.folder / NETWORK / WEIGHTS)[0])}
    files |= memory.save(draft)
    images, k = sum(table.rows for table in tables), network.k
    sentence = f"{counted(k, 'cluster')} of {counted(images, 'image')} of {data.name}"
    version = Version(
        number=draft.number,
        why="init",
        when=draft.when,
        asked=draft.asked,
        basis=basis,
        backbone=features.settings,
        seed=seed,
        next_id=k,
        next_table=len(tables),
        data=(data,),
        tables=tuple(tables),
        events=(Event(kind="founded", ids=tuple(range(k)), images=images, sentence=sentence),),
        files=files,
        counts=counts(tables),
    )
    carry_names(draft.clusters, basis, k)
    draft.commit(version)
