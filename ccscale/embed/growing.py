"""Adds shards to a store: all ranks compute their parts, which are joined and listed in rounds."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ccscale import dist
from ccscale.data.remote.access import Access
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.embed.features import Embedder
from ccscale.embed.opening import check_belongs
from ccscale.embed.parts_store import PartsStore
from ccscale.evaluate.parts import deal
from ccscale.features.listing import FeatureFile, ListedDataSet, Listing
from ccscale.preempt import StopRequest
from ccscale.wording import agree, counted

ROUND = 256  # parts of each rank, after which the shards that are whole are joined


class GrowingStore:
    """A store, as all ranks make it together.

    Parameters
    ----------
    folder
        The store's.
    listing
        As `open_store` returned it on the first rank.
    embedder
        What makes the features.
    access
        How remote shards are read.

    Attributes
    ----------
    listing
        What is listed now.
    new
        The files that were added.
    """

    def __init__(
        self, folder: Path, listing: Listing, embedder: Embedder, access: Access | None = None
    ) -> None:
        self.folder, self.listing = folder, listing
        self.new: list[FeatureFile] = []
        self._embedder, self._access = embedder, access
        self._parts = PartsStore(folder, listing)

    def grow(self, manifest: Manifest, splits: Sequence[str], request: StopRequest | None = None) -> None:
        """Add the shards of some splits that are not listed yet; those that are stay. Ends early on a request.

        Raises
        ------
        InputError
            If the store is of other shards.
        """
        dist.on_rank_zero(lambda: check_belongs(self.folder, self.listing, manifest))
        chosen = {*splits, *self.listing.data.splits}
        shards = [shard for shard in manifest.shards if shard.split in chosen]
        listed = {file.shard.url for file in self.listing.files}
        missing = [shard for shard in shards if shard.url not in listed]
        if missing:
            if self.listing.complete:
                self._list(manifest, shards, (), complete=False)
            dist.on_rank_zero(self._parts.begin)
        for group in _rounds(missing, dist.world() * ROUND * self.listing.block):
            if not self._add(manifest, shards, group, request):
                return
        if missing or not self.listing.complete:
            self._list(manifest, shards, (), complete=True)
            dist.on_rank_zero(self._parts.end)

    def _add(
        self,
        manifest: Manifest,
        shards: Sequence[Shard],
        group: Sequence[Shard],
        request: StopRequest | None,
    ) -> bool:
        """Make the parts of some shards, join them, and list them; return whether they are all there."""
        parts = self._parts.parts_of(group)
        done = dist.on_rank_zero(lambda: self._parts.done(parts))
        if done:
            there = f"{len(done):,} of {counted(len(parts), 'part')}"
            dist.say(f"continuing after {there} that {agree(len(done), 'was', 'were')} already done")
        mine = deal(parts, done, dist.rank(), dist.world())
        chosen = replace(manifest, shards=tuple(group))
        spans = [part.span for part in mine]
        splits = tuple(chosen.splits)
        batches = self._embedder.embed(chosen, splits, spans, request, self._access)
        dist.together(lambda: self._parts.write(mine, batches))
        if dist.sum_integers([bool(request)])[0] and not dist.on_rank_zero(
            lambda: len(self._parts.done(parts)) == len(parts)
        ):
            return False
        joined = dist.together(lambda: list(map(self._parts.join, group[dist.rank() :: dist.world()])))
        self._list(manifest, shards, list(itertools.chain(*dist.all_objects(joined))), complete=False)
        dist.on_rank_zero(lambda: self._parts.remove_parts(group))
        return True

    def _list(
        self, manifest: Manifest, shards: Sequence[Shard], new: Sequence[FeatureFile], complete: bool
    ) -> None:
        """List the files that are there, in the order of the shards."""
        files = {file.shard.url: file for file in (*self.listing.files, *new)}
        entries = [
            files[shard.url].model_copy(update={"shard": shard}) for shard in shards if shard.url in files
        ]
        there = replace(manifest, shards=tuple(entry.shard for entry in entries))
        splits = tuple(there.splits)
        self.new += new
        self.listing = self.listing.changed(
            files=tuple(entries),
            data=ListedDataSet(
                root=manifest.root,
                name=manifest.name,
                splits=splits,
                digest=there.digest(splits),
                classes=manifest.classes,
                class_ids=manifest.class_ids,
            ),
            complete=complete,
            neighbours=None,  # of other rows
        )
        dist.on_rank_zero(lambda: self.listing.save(self.folder))


def _rounds(shards: Sequence[Shard], samples: int) -> Iterator[list[Shard]]:
    """Yield shards in their order, so many together that they have at least so many samples."""
    held, count = list[Shard](), 0
    for shard in shards:
        held.append(shard)
        count += shard.nsamples
        if count >= samples:
            yield held
            held, count = [], 0
    if held:
        yield held
