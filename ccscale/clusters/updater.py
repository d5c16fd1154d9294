"""Turns new images into versions, on all ranks: embeds, assigns and remembers them; see `update.py`."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccscale import dist
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.data_sets import name_data, new_shards, store_of, with_data
from ccscale.clusters.decisions import accept_kinds, commit_change, reassign
from ccscale.clusters.draft import Draft, begin_draft
from ccscale.clusters.drift import Reference
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.new_images import NewImages, sample
from ccscale.clusters.proposal_search import propose
from ccscale.clusters.shard_tables import NewShard, ShardAssignments, ShardRows, write_tables
from ccscale.clusters.version import DataSet, TableFile, Version, counts
from ccscale.config import Views
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.embed.embed import BackboneSource, EmbedOptions, grow_by, growing_store
from ccscale.embed.growing import GrowingStore
from ccscale.errors import InputError
from ccscale.evaluate.reliability import assign_features
from ccscale.features.listing import Listing, Settings
from ccscale.features.store import Features
from ccscale.model.export import load
from ccscale.model.network import ContrastiveClustering
from ccscale.preempt import StopRequest
from ccscale.wording import counted

COMPARED = ("backbone", "weights", "model", "size", "scaled_decode")  # of a store's settings


class Updater(AbstractContextManager["Updater"]):
    """Makes versions from new images, on all ranks together; used within `exclusive_writer`."""

    def __init__(
        self, run: str | Path, device: torch.device, workers: int | None, request: StopRequest
    ) -> None:
        self.versions: list[int] = []
        self._run, self._device, self._workers, self._request = run, device, workers, request
        self._open = ExitStack()
        self._data: DataSet | None = None
        self._store: GrowingStore | None = None
        self._lineage = dist.on_rank_zero(lambda: open_lineage(run))
        network = self._lineage.network()
        self._network = dist.together(lambda: load(network, device, heads_alone=True))

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def with_store(self, features: Features) -> None:
        """Add the shards of a store that have no table yet."""
        listing = features.listing
        dist.on_rank_zero(lambda: check_backbone(features.folder, listing.settings, self._lineage.current))
        data = self._name(listing.data.name, listing.data.root, features.shards)
        self._take_in(features.folder.absolute(), listing, self._fresh(data, features.shards), data)

    def with_shards(self, found: Manifest) -> None:
        """Add the shards of a data set that have no table yet; their features go into a store."""
        data = self._name(found.name, found.root, found.shards)
        fresh = self._fresh(data, found.shards)
        if not fresh:
            return
        if self._store is None:
            self._store = self._open.enter_context(self._opened_store(data, found.root))
        grow_by(self._store, replace(found, shards=tuple(fresh)), self._request)
        there = {file.shard.url for file in self._store.listing.files}
        embedded = [shard for shard in fresh if shard.url in there]
        self._take_in(self._store.folder, self._store.listing, embedded, data)

    def decide(self, apply: Sequence[str], again: bool) -> None:
        """Accept the given kinds of proposals, and reassign all images if requested."""
        made = [accept_kinds(self._run, apply, self._device.type) if apply else None]
        made.append(reassign(self._run, self._device.type) if again else None)
        self.versions += [number for number in made if number is not None]
        self._lineage = dist.on_rank_zero(lambda: open_lineage(self._run))

    def _name(self, name: str, root: str, shards: Sequence[Shard]) -> DataSet:
        """Return the data set of the shards, which is one per update."""
        if self._data is None:
            known, tables = self._lineage.current.data, self._tables
            self._data = dist.on_rank_zero(
                lambda: name_data(self._lineage.folder, known, tables, name, root, shards)
            )
        return self._data

    @property
    def _tables(self) -> list[TableFile]:
        return [table for _, table in self._lineage.tables().values()]

    def _fresh(self, data: DataSet, shards: Sequence[Shard]) -> list[Shard]:
        fresh = dist.on_rank_zero(lambda: new_shards(self._tables, data.name, shards))
        if not fresh:
            dist.say(f"nothing new in {data.root}: all its shards are already assigned")
        return fresh

    def _opened_store(self, data: DataSet, root: str) -> AbstractContextManager[GrowingStore]:
        """Open the store of a data set's features, computed by the clusters' own network."""
        folder, backbone = store_of(self._lineage.folder, data.name), self._lineage.current.backbone
        dist.on_rank_zero(lambda: folder.parent.mkdir(exist_ok=True))
        wanted = EmbedOptions(backbone.size, view_settings=Views(scaled_decode=backbone.scaled_decode))
        source = BackboneSource(run=str(self._lineage.network()), origin=self._lineage.current.basis.origin)
        return growing_store(
            folder,
            source,
            wanted,
            root,
            device=self._device.type,
            workers=self._workers,
            request=self._request,
        )

    def _take_in(self, folder: Path, listing: Listing, fresh: Sequence[Shard], data: DataSet) -> None:
        """Make a version from shards whose features exist."""
        if not fresh:
            return
        lineage, network = self._lineage, self._network
        newest = dist.on_rank_zero(lineage.newest)
        files = {file.shard.url: file for file in listing.files}
        store = str(folder)
        with contextlib.suppress(ValueError):
            store = str(folder.relative_to(lineage.folder))
        shards = [
            NewShard(newest.next_table + number, data.name, store, folder, files[shard.url])
            for number, shard in enumerate(fresh)
        ]
        draft = dist.on_rank_zero(lambda: begin_draft(lineage.folder, "update", f"images of {data.root}"))
        memory = dist.on_rank_zero(lambda: Memory.of(lineage))
        seed = lineage.current.seed

        new_images, reference = dist.on_rank_zero(lambda: examine(memory, shards, network, seed))

        def answer(rows: ShardRows) -> tuple[ShardAssignments, dict[str, Any]]:
            heads, confidence = assign_features(network, rows.features)
            answers = assign_images(memory.state, rows.features, heads, confidence, rows.refs, new_images)
            return answers, reference.measure(rows.features, heads, confidence, answers, seed)

        tables = write_tables(draft, shards, answer)
        dist.on_rank_zero(lambda: self._commit(draft, newest, shards, tables, data, memory, new_images))
        images, none = (sum(getattr(one, name) for one in tables) for name in ("rows", "unassigned"))
        dist.say(
            f"version {draft.number}: {counted(images, 'image')} of {data.name}, {none:,} without a cluster"
        )
        self.versions.append(draft.number)
        self._lineage = dist.on_rank_zero(lambda: open_lineage(self._run))

    def _commit(
        self,
        draft: Draft,
        newest: Version,
        shards: Sequence[NewShard],
        tables: Sequence[TableFile],
        data: DataSet,
        memory: Memory,
        new_images: NewImages,
    ) -> None:
        """Update the memory, find proposals, and write the version."""
        current = self._lineage.current
        for shard, table in zip(shards, tables, strict=True):
            memory = memory.after(draft, shard, table, self._network, current.seed)
        every = with_data(current.data, data)
        proposed = propose(draft, self._lineage, memory, new_images, tables, every, newest.next_proposal)
        commit_change(
            self._lineage,
            draft,
            next_table=newest.next_table + len(tables),
            next_proposal=proposed.next,
            data=every,
            tables=tuple(tables),
            proposals=proposed.listed,
            files=current.files | memory.save(draft) | proposed.files,
            counts=counts(tables, current.counts),
        )


def examine(
    memory: Memory, shards: Sequence[NewShard], network: ContrastiveClustering, seed: int
) -> tuple[NewImages, Reference]:
    """Return a bounded sample of the new images, and the reference for drift."""
    width = memory.reservoir.features.shape[1]
    features, refs = np.empty((0, width), np.float32), np.empty(0, np.int64)
    for shard in shards:
        rows = shard.read()
        features, refs = np.concatenate([features, rows.features]), np.concatenate([refs, rows.refs])
        kept = sample(refs, seed)
        features, refs = features[kept], refs[kept]
    heads, _ = assign_features(network, features)
    reference = Reference.of(
        memory.state,
        memory.reservoir,
        *assign_features(network, memory.reservoir.features.astype(np.float32)),
    )
    return NewImages.of(memory.state, memory.reservoir, memory.pool, features, heads, refs, seed), reference


def check_backbone(folder: Path, settings: Settings, version: Version) -> None:
    """Refuse a store of another backbone than the clusters'.

    Raises
    ------
    InputError
        Naming what differs.
    """
    ours, theirs = version.backbone, settings
    for name in COMPARED:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine != other:
            told = "its weights are others" if name == "weights" else f"its {name} is {other!r}, not {mine!r}"
            raise InputError(
                f"{folder} has features of another backbone than the clusters ({told}; made by "
                f"{theirs.origin or theirs.backbone}): give --shards DIR to embed the images with the "
                "clusters' own backbone"
            )
