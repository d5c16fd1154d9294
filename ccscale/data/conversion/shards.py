"""Makes shards of a source's images, in any number of processes and after any number of kills with the same bytes.

    OUT/train-000000.tar            <key>.jpg, <key>.cls, <key>.json, <key>.jpg, …
    OUT/train-000000.index.parquet  where the images lie in the tar
    OUT/rejected.csv                images that cannot be decoded; only if there are any
    OUT/duplicates.csv              images left out by `dedup`; only if there are any
    OUT/dataset.json                the manifest, written last
    OUT/.ccscale-making/            notes while the shards are being made (`conversion.py`)

All is laid out first: `lay_out_shards` is a pure function of the names and the seed. Each shard then depends on its
own layout alone and appears under its name when it is whole.
"""

import errno
import os
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ccscale import pool
from ccscale.data.conversion.conversion import Conversion, begin, check_folder, remove_notes
from ccscale.data.conversion.duplicates import without_duplicates
from ccscale.data.conversion.layout import (
    affordable_samples,
    lay_out_shards,
    layout_digest,
    request_digest,
    sampled,
)
from ccscale.data.conversion.outcome import finish
from ccscale.data.conversion.preparation import Preparation
from ccscale.data.conversion.record import note_records
from ccscale.data.conversion.rejected import Rejected, listed_as_rejected
from ccscale.data.conversion.retry_rejected import may_be_read_now, try_again
from ccscale.data.conversion.stash import Stash, is_costly
from ccscale.data.conversion.writing import write_shards
from ccscale.data.remote import location
from ccscale.data.shards import manifest
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.cells import Cell
from ccscale.data.sources.items import Item, Source
from ccscale.errors import Fault, InputError
from ccscale.progress import say


def make_shards(
    source: Source,
    out: str | os.PathLike[str],
    *,
    shard_samples: int | None = None,
    shard_bytes: int = 256 * 2**20,
    resize: int | None = None,
    format: str | None = None,
    quality: int = 95,
    dedup: bool = False,
    strict: bool = False,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    channels: int | None = None,
    shown: tuple[int, ...] | None = None,
) -> Manifest:
    """Write a source's images into shards and return their manifest.

    Every image is decoded once to check it. Those that fail are listed in ``rejected.csv`` and left out. The
    bytes of the others are kept, unless `resize` or `format` asks for something else or the format is none of
    JPEG, PNG and WebP: then they become PNG. The output is the same for any number of workers.

    Called again after it was stopped or killed it goes on, and keeps the shards that are whole; called again after
    it was done, it returns the manifest that is there. Either tries again what could not be read for a reason that
    may pass (``temporary`` in the list; ``made_by["temporary"]`` counts them) and files that were mended since, and
    makes the shards anew that lacked one.

    Parameters
    ----------
    source
        From `ccscale.data.sources.kinds.open_source`.
    out
        A local folder, made if need be.
    shard_samples
        The most samples in a shard; a split's shards are of equal size, up to one sample. By default 10,000, or
        fewer where these would pass `shard_bytes`.
    shard_bytes
        The size in bytes that a shard is to stay near to, judged from some of the images.
    resize
        Length in pixels that the short side is reduced to, where it is longer.
    format
        ``"jpg"``, ``"png"`` or ``"webp"`` for all images.
    quality
        1 to 100, for what is encoded anew as JPEG or WebP.
    dedup
        Leave out images whose files have the same bytes as one before them, in the order of the splits and then
        of their images; they are listed in ``duplicates.csv``.
    strict
        Refuse a source beside whose images lies something that is passed over, or some of which need other keys
        than their names.
    seed
        Of the order of the samples, 0 or more.
    workers
        Processes; by default one per core that this process may use. More than one needs a program that can be
        imported (``if __name__ == "__main__":``).
    progress
        Whether to show progress on standard error.
    channels
        Images have this many channels, of 8 or 16 bits or floating-point numbers, and are kept as stored;
        the numbers of each channel are measured, and stand in the manifest (`Manifest.pixels`).
    shown
        The channels, counted from 0, that pictures show as red, green and blue; by default the first three.

    Raises
    ------
    InputError
        If an option is out of range, images of channels are not of one type of numbers, `out` cannot take the
        shards, or no image can be read.
    Fault
        If the disk is full, the source cannot be read any more, or a worker process was killed. The same call goes
        on when that is put right.
    """
    asked = _Options(
        Preparation(resize, format, quality, channels), shown, dedup, seed, shard_samples, shard_bytes
    )
    pool.check_workers(workers)
    _tell_oddities(source, strict, progress)
    folder = location.local_or_url(out)
    request = request_digest(source, asked.as_json())
    made = _made_before(folder, request)
    left_out = [] if made is None else listed_as_rejected(folder)
    if made is not None:
        if not may_be_read_now(source, left_out, asked.preparation):
            remove_notes(folder)
            if progress:
                say(f"{folder} already holds these shards: the same image names and options")
            return made
    else:
        _check_out(source, folder)
        check_folder(folder, request)
    try:
        reopen = made is not None
        with begin(folder, request, asked.preparation, workers, progress, reopen=reopen) as conversion:
            return _convert(source, asked, request, conversion, made, left_out)
    except OSError as error:
        what = f"{error.filename or folder} cannot be written to ({error.strerror})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE):
            again = "start the same command again when it can be, which keeps the shards that are whole"
            raise Fault(f"{what}: {again}") from None
        raise InputError(f"{what}: fix that, or choose another folder") from None


@dataclass(frozen=True)
class _Options:
    """What the bytes of the shards depend on beside the source; see `make_shards`."""

    preparation: Preparation
    shown: tuple[int, ...] | None
    dedup: bool
    seed: int
    shard_samples: int | None
    shard_bytes: int

    def __post_init__(self) -> None:
        channels = self.preparation.channels
        if self.shown is not None and not all(0 <= channel < (channels or 0) for channel in self.shown):
            raise InputError(
                f"shown is {', '.join(map(str, self.shown))}: use channels from 0 to {(channels or 1) - 1}"
            )
        if self.shard_samples is not None and self.shard_samples < 1:
            raise InputError(f"shard_samples is {self.shard_samples}: a shard holds at least 1 sample")
        if self.shard_bytes < 1:
            raise InputError(f"shard_bytes is {self.shard_bytes}: give at least 1 byte")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be 0 or more")

    def as_json(self) -> dict[str, Any]:
        """Return it as the manifest keeps it, without channels where images have none."""
        options = asdict(self)
        options = {**options.pop("preparation"), **options}
        if self.preparation.channels is None:
            del options["channels"], options["shown"]
        return options


def _convert(
    source: Source,
    asked: _Options,
    request: str,
    conversion: Conversion,
    made: Manifest | None,
    left_out: list[Rejected],
) -> Manifest:
    """Make the shards; of those that were `made` before, if any image that they left out can be read now."""
    stash = Stash(conversion)
    try_again(source, left_out or conversion.rejected(), stash)
    if made is not None and not _changes(left_out, stash):
        conversion.remove_stash()
        return made
    stash.read(_in_cells(source, stash), "reading images")
    images, duplicates = without_duplicates(source, stash) if asked.dedup else (source, None)
    affordable = _affordable(images, asked.shard_bytes, stash)
    layouts = lay_out_shards(images, asked.seed, asked.shard_samples, affordable)
    conversion.pin_layout(layout_digest(layouts), made is not None or bool(stash.images))
    if made is not None:
        note_records(made, left_out, layouts)
        conversion.reopen()
    records = write_shards(layouts, stash)
    measure = None if asked.preparation.channels is None else partial(conversion.measure, asked.shown)
    made = finish(source, conversion.out, layouts, records, duplicates, asked.as_json(), request, measure)
    if made.made_by.get("temporary"):
        conversion.remove_stash()
    else:
        remove_notes(conversion.out)
    return made


def _tell_oddities(source: Source, strict: bool, progress: bool) -> None:
    """Report skipped and renamed files of a source, or refuse it."""
    told = [str(source.passed)] if source.passed.kinds else []
    told += source.renamed
    if told and strict:
        raise InputError(f"{'; '.join(told)}, which --strict refuses; fix that, or leave out --strict")
    if progress:
        for sentence in told:
            say(sentence)


def _made_before(out: str, request: str) -> Manifest | None:
    """Return the manifest that the same call has written; refuse a folder with another data set."""
    if location.is_url(out) or not os.path.exists(os.path.join(out, manifest.NAME)):
        return None
    try:
        made = Manifest.load(out)
    except InputError:
        made = None
    if made is None or made.made_by.get("request") != request:
        raise InputError(f"{out} already contains a data set: choose another folder, or delete it first")
    made.check_files(made.splits)
    return made


def _changes(left_out: list[Rejected], stash: Stash) -> bool:
    """Return whether any of the images that were left out can be read now, or is left out for another reason."""
    return any(line.key in stash.images or stash.failed.get(line.key, line) != line for line in left_out)


def _in_cells(source: Source, stash: Stash) -> list[tuple[str, Item]]:
    """Return the (split, item) of those images that are read in the order of their table."""
    return [
        (split, item)
        for split, items in source.splits.items()
        for item in items
        if isinstance(item.content, Cell) and not stash.knows(item)
    ]


def _affordable(source: Source, shard_bytes: int, stash: Stash) -> int:
    """Estimate how many samples make a shard; what must be fetched for that is kept."""
    conversion, preparation = stash.conversion, stash.conversion.preparation
    some = sampled(source, preparation)
    sizes = conversion.sizes()
    costly = [(split, item) for split, item in some if is_costly(item) and item.key not in sizes]
    if preparation.keeps_bytes:
        costly = [(split, item) for split, item in costly if isinstance(item.content, Cell)]
    unread = [(split, item) for split, item in costly if not stash.knows(item)]
    stash.read(unread, "looking at sizes")
    for _, item in costly:
        if item.key in stash.images:
            sizes[item.key] = stash.images[item.key].size
        elif not stash.failed[item.key].temporary:
            sizes[item.key] = 0
    if sizes:
        conversion.note_sizes(sizes)
    return affordable_samples((item for _, item in some), preparation, shard_bytes, sizes)


def _check_out(source: Source, out: str) -> None:
    """Refuse a folder that shards would harm or be harmed in."""
    if location.is_url(out):
        raise InputError(
            f"shards can only be written to a local folder, not to {out}: copy them there afterwards"
        )
    if os.path.exists(out) and not os.path.isdir(out):
        raise InputError(f"{out} is a file: give a folder for the shards")
    above = os.path.join(os.path.realpath(out), "")
    for items in source.splits.values():
        if any(item.content.path is not None and item.content.path.startswith(above) for item in items):
            raise InputError(f"{out} contains the images themselves: choose another folder for the shards")
