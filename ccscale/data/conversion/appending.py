"""Shards of a growing folder: new images go into new shards, existing shards stay unchanged.

    OUT/train-000000.tar    of the first call
    OUT/train-000001.tar    of what was new at the second, and its index beside it
    OUT/rejected.csv        what all calls have left out
    OUT/dataset.json        the manifest of all, replaced when the new shards are there
    OUT/.new-1f2e3d4c/      the new images' shards while they are being made (`shards.py`); removed in the end

An image is identified by its path: one that was changed or deleted stays in the shards as it was.
"""

import contextlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ccscale.data.conversion.layout import request_digest
from ccscale.data.conversion.outcome import NoneReadable, write_rejected
from ccscale.data.conversion.rejected import Rejected, listed_as_rejected
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.index import index_location, read_index
from ccscale.data.shards.manifest import NAME, Manifest
from ccscale.data.sources.items import Item, Source
from ccscale.errors import InputError
from ccscale.progress import say

NEW = ".new-"
SHARD_SAMPLES, SHARDS = (
    500,
    1000,
)  # a process makes a shard at a time: a few hundred images keep several at work


@dataclass(frozen=True)
class Grown:
    """Shards that were made to grow.

    Attributes
    ----------
    manifest
        Of all of them.
    new
        How many images were taken in now.
    rejected
        What cannot be read, of all calls.
    gone
        How many images of earlier calls the source has no more.
    """

    manifest: Manifest
    new: int
    rejected: tuple[Rejected, ...]
    gone: int


def grow_shards(
    source: Source,
    out: Path,
    *,
    resize: int | None = None,
    workers: int | None = None,
    channels: int | None = None,
) -> Grown:
    """Append the new images of a source to a folder of shards; resumes after a kill.

    Parameters
    ----------
    source
        All images that there are now.
    out
        A local folder, made if need be.
    resize, workers, channels
        As `make_shards` has them. What was measured of channels at the first call counts from then on.

    Raises
    ------
    InputError
        If no image can be read, or as `make_shards` does.
    Fault
        As `make_shards` does.
    """
    before = Manifest.load(out) if (out / NAME).exists() else None
    known = _origins(before) if before else set()
    there = {item.origin for items in source.splits.values() for item in items}
    rejected = [line for line in listed_as_rejected(str(out)) if not line.temporary]
    new = _without(source, before, known | {line.origin for line in rejected})
    part = out / f"{NEW}{request_digest(new, {'resize': resize})[:8]}"
    for other in out.glob(f"{NEW}*"):
        if other != part:  # of a call that was killed; the source is another one by now
            shutil.rmtree(other)
    taken = 0
    if any(new.splits.values()):
        out.mkdir(parents=True, exist_ok=True)
        try:
            samples = max(SHARD_SAMPLES, sum(map(len, new.splits.values())) // SHARDS)
            made = make_shards(
                new, part, resize=resize, shard_samples=samples, workers=workers, channels=channels
            )
        except NoneReadable as error:
            if before is None:
                raise
            say(f"of what is new, {error}")
            return Grown(before, 0, tuple(rejected), len(known - there))
        taken = sum(shard.nsamples for shard in made.shards)
        rejected += listed_as_rejected(str(part))
        write_rejected(str(out), rejected)
        before = _join(before, made, part, out)
        shutil.rmtree(part)
    assert before is not None  # a source has images
    return Grown(before, taken, tuple(rejected), len(known - there))


def _origins(manifest: Manifest) -> set[str]:
    indexes = (read_index(manifest, shard) for shard in manifest.shards)
    return {origin for index in indexes for origin in index.origins or () if origin is not None}


def _without(source: Source, before: Manifest | None, known: set[str]) -> Source:
    """Return a source without the images that are known, its classes numbered as before and on."""
    ids = [] if before is None else list(before.class_ids)
    names = [] if before is None else list(before.classes)
    for name, class_id in zip(source.classes, source.class_ids, strict=True):
        if class_id not in ids:
            ids.append(class_id)
            names.append(name)
    number = {class_id: place for place, class_id in enumerate(ids)}

    def renumbered(item: Item) -> Item:
        return item if item.label is None else replace(item, label=number[source.class_ids[item.label]])

    splits = {
        split: [renumbered(item) for item in items if item.origin not in known]
        for split, items in source.splits.items()
    }
    return replace(
        source,
        classes=tuple(names),
        class_ids=tuple(ids),
        splits={split: items for split, items in splits.items() if items},
    )


def _join(before: Manifest | None, made: Manifest, part: Path, out: Path) -> Manifest:
    """Add new shards to the existing ones, and write the manifest."""
    pixels = made.pixels if before is None else before.pixels
    if pixels is not None and made.pixels is not None and pixels.type != made.pixels.type:
        shutil.rmtree(part)  # or converted images, of the same names, would be taken for those
        raise InputError(
            f"the new images have pixels of type {made.pixels.type}, but those before have {pixels.type}: convert "
            "the new ones to that"
        )
    shards = [] if before is None else list(before.shards)
    counts = Counter(shard.split for shard in shards)
    for shard in made.shards:
        name = f"{shard.split}-{counts[shard.split]:06d}.tar"
        counts[shard.split] += 1
        for source, target in (
            (part / shard.url, out / name),
            (index_location(str(part / shard.url)), index_location(str(out / name))),
        ):
            with contextlib.suppress(
                FileNotFoundError
            ):  # of a call that was killed before the manifest was written
                os.unlink(target)
            os.link(source, target)
        shards.append(replace(shard, url=name))
    labelled = Counter({} if before is None else before.labelled) + Counter(made.labelled)
    joined = replace(made, root=str(out), shards=tuple(shards), labelled=dict(labelled), pixels=pixels)
    joined.save()
    return joined
