"""A store while it is being made: parts, each complete or absent, and the files joined from them.

::

    STORE/features.json                      what it is to be; `complete` once all its files are listed
    STORE/parts/train-000000.000001024.arrow a part: a block of a shard, from the rank that took it
    STORE/train-000000.arrow                 a shard's parts, joined; then they are removed

A part is one record batch of its file, and its samples' batches end with it: so the bytes are the same whichever
ranks made it, however often they were killed.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from ccscale import atomic
from ccscale.data.shards.manifest_file import Shard
from ccscale.embed.features import Embedded
from ccscale.errors import InputError
from ccscale.evaluate.parts import Part, by_part, parts_of
from ccscale.features.feature_file import ENDING, FeatureFileReader, record_batch, schema, write_file
from ccscale.features.listing import FeatureFile, Listing

FOLDER = "parts"


class PartsStore:
    """The files of a store that is being made."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        self.folder, self._parts = folder, folder / FOLDER
        settings = listing.settings
        self._width, self._views, self._dtype = listing.width, settings.views, settings.dtype
        self._block = listing.block

    def begin(self) -> None:
        """Make the folder of parts, and remove what a rank that was killed has left half written. On one rank."""
        with atomic.writing(self._parts):
            self._parts.mkdir(exist_ok=True)
            for folder in (self.folder, self._parts):
                for path in folder.glob("*.part"):
                    path.unlink()

    def end(self) -> None:
        """Remove the folder of parts. On one rank."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def parts_of(self, shards: Sequence[Shard]) -> list[Part]:
        """Return the parts of shards: a block each."""
        return parts_of(shards, self._block)

    def done(self, parts: Collection[Part]) -> set[str]:
        """Return the names of those parts whose files are there, and of the shards as they are now."""
        names = set(os.listdir(self._parts))
        return {part.name for part in parts if f"{part.name}{ENDING}" in names and self._is_of(part)}

    def write(self, parts: Sequence[Part], batches: Iterable[Embedded]) -> None:
        """Write the files of parts from the batches of their samples, in the same order.

        `batches` may end early: then the last part is left out.

        Raises
        ------
        Fault
            If they cannot be written.
        """
        for part, held in by_part(parts, batches, lambda one: len(one.keys)):
            self._write(part, held)

    def _write(self, part: Part, held: Sequence[Embedded]) -> None:
        form = schema(
            self._width,
            self._views,
            self._dtype,
            {"part": part.key, "bad": [reason for one in held for reason in one.reasons]},
        )
        batch = record_batch(
            form,
            [key for one in held for key in one.keys],
            np.concatenate([one.labels for one in held]),
            np.concatenate([one.bad for one in held]),
            [np.concatenate([one.features[view] for one in held]) for view in range(self._views + 1)],
        )
        with atomic.writing(self._path(part)):
            write_file(self._path(part), form, [batch])

    def join(self, shard: Shard) -> FeatureFile:
        """Join the parts of a shard, all of which are there, to its file.

        Raises
        ------
        Fault
            If it cannot be written.
        """
        parts = self.parts_of([shard])
        readers = (FeatureFileReader(self._path(part)) for part in parts)
        bad = [reason for reader in readers for reason in reader.facts["bad"]]
        form = schema(self._width, self._views, self._dtype, {"bad": bad})
        path = self.folder / file_name(shard)
        with atomic.writing(path):
            written = write_file(
                path,
                form,
                (
                    batch.replace_schema_metadata(form.metadata)
                    for part in parts
                    for batch in FeatureFileReader(self._path(part)).batches
                ),
            )
        return FeatureFile(
            name=path.name,
            rows=written.rows,
            bytes=written.bytes,
            sha256=written.sha256,
            labelled=written.labelled,
            bad=written.bad,
            shard=shard,
        )

    def remove_parts(self, shards: Iterable[Shard]) -> None:
        """Remove the parts of shards whose files are listed. On one rank."""
        for part in self.parts_of(list(shards)):
            self._path(part).unlink(missing_ok=True)

    def _is_of(self, part: Part) -> bool:
        try:
            reader = FeatureFileReader(self._path(part))
            return part.is_of(reader.facts["part"]) and reader.rows == part.count
        except (InputError, KeyError):
            return False

    def _path(self, part: Part) -> Path:
        return self._parts / f"{part.name}{ENDING}"


def file_name(shard: Shard) -> str:
    """Return the name of a shard's file of features."""
    return Part(shard, 0, 0, 0).name.rpartition(".")[0] + ENDING
