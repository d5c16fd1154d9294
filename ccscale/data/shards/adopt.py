"""``ccscale shards index``: a manifest and indexes for tars that others made. The tars stay as they are.

    DIR/dataset.json                 the manifest, written last
    DIR/train-000000.index.parquet   beside each tar

or, where DIR cannot be written to, all this in a folder of its own, with a link to each tar:

    OUT/train-000000.tar -> DIR/train-000000.tar

Called again, it reads what is new. While it is at work, indexes have names of their own (`adopted_tar.py`): what
was there before is replaced when every tar has been read.
"""

import contextlib
import functools
import importlib.metadata
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ccscale import pool
from ccscale.data.remote import location
from ccscale.data.shards import index
from ccscale.data.shards.adopted_tar import AdoptedTar, Folders, adopt_tar, put_in_place
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.hashing import blocks_of
from ccscale.data.shards.keys import digests, shared_keys
from ccscale.data.shards.labels import LabelError, Labels
from ccscale.data.shards.manifest import NAME, NAMES, Manifest
from ccscale.data.shards.manifest_file import Shard, url_complaint
from ccscale.data.shards.skipped_files import SkippedFiles
from ccscale.data.shards.splits import describe, splits_of
from ccscale.data.shards.tar_listing import refuse_compressed, tars_below
from ccscale.errors import InputError
from ccscale.progress import Meter, say

NAMED = 10  # damaged tars that an error names


def adopt(
    root: str | os.PathLike[str],
    split: str | Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
    *,
    out: str | os.PathLike[str] | None = None,
    label_field: str | None = None,
    strict: bool = False,
) -> Manifest:
    """Index every tar in a local folder and its sub-folders, and write the manifest there.

    Every tar is read once. If one is damaged, no manifest is written and no index is left behind. Where a manifest
    is there that this made before, the tars that it does not list join it: classes keep their labels, and new ones
    come after them.

    Parameters
    ----------
    root
        The folder.
    split
        The split of all tars, or ``PATTERN=NAME`` for those whose names match, or several of these; what they do
        not speak of goes by the tars' names (`splits.split_of`).
    workers
        Processes; by default one per core that this process may use.
    progress
        Whether to show progress on standard error, and before anything is written which tars are of which
        split.
    out
        A folder for manifest, indexes and links to the tars; by default they go beside the tars.
    label_field
        The field of the samples' json that is the label; by default the label is the text of ``cls``.
    strict
        Refuse tars in which anything is passed over.

    Raises
    ------
    InputError
        If there are no tars, compressed ones, or ones that a manifest cannot list; there is a manifest of something
        else; tars are damaged (which are named), labels are none, or two samples share a key; or a pattern matches
        no tar.
    """
    folder = location.local_or_url(root)
    if location.is_url(folder):
        raise InputError(f"{folder} is remote, but indexing reads tars completely: index a local copy")
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}")
    home = folder if out is None else location.local_or_url(out)
    _check_out(folder, home)
    before = _made_before(home)
    refuse_compressed(folder)
    tars = tars_below(folder)
    for name in tars:
        if complaint := url_complaint(name):
            raise InputError(f"a tar in {folder} cannot be listed in a manifest: {complaint}: rename it")
    if before is not None:
        tars = _new_tars(before, tars, label_field)
        label_field = before.labelling.field
        if not tars:
            if progress:
                say(f"{home} is up to date with its {NAME}: there are no new tars")
            return before
    if not tars:
        raise InputError(f"{folder} holds no tars; make shards from images with `ccscale shards make`")
    splits = splits_of(tars, [split] if isinstance(split, str) else split)
    if progress:
        for line in describe(splits):
            say(line)
    folders = Folders(folder, home, label_field, strict)
    with _cleaned(folders, tars):
        found = _read_all(folders, splits, workers, progress)
        _check_keys(folders, found, before)
        labels = _understand(found, before)
        if progress:
            _tell(found, labels)
        put_in_place(folders, found, labels, workers)
        made = _manifest(folders, found, labels, before)
        made.save()
    return made


def _check_out(folder: str, out: str) -> None:
    """Refuse a folder for the indexes that lies in the tars' folder, or is no folder."""
    if out == folder:
        return
    if location.is_url(out) or (os.path.exists(out) and not os.path.isdir(out)):
        raise InputError(f"{out} is not a local folder: give one for the indexes")
    inner, outer = os.path.realpath(out), os.path.join(os.path.realpath(folder), "")
    if os.path.join(inner, "").startswith(outer):
        raise InputError(f"{out} is inside {folder}: choose a folder outside it for the indexes")


def _made_before(home: str) -> Manifest | None:
    """Return the manifest that `adopt` has made in a folder, None if there is none; refuse any other."""
    if not os.path.lexists(os.path.join(home, NAME)):
        return None
    try:
        made = Manifest.load(home)
    except InputError as error:
        raise InputError(f"{home} already has a {NAME} that cannot be read: {error}, or delete it") from None
    if made.made_by.get("kind") != "index":
        raise InputError(
            f"{home} already has a {NAME} for a data set made from images; check it with `ccscale shards "
            "verify`, or delete it"
        )
    return made


def _new_tars(before: Manifest, tars: list[str], label_field: str | None) -> list[str]:
    """Return the tars that a manifest does not list; refuse what does not go with it."""
    field = before.labelling.field
    if label_field not in (None, field):
        raise InputError(
            f"--label-field {label_field}: the labels of {before.root} are read from "
            f"{'cls' if field is None else f'the field {field!r}'}: delete its {NAME} to read all tars anew"
        )
    listed = {shard.url for shard in before.shards}
    for url in listed.difference(tars):
        raise InputError(
            f"{before.root} lists the tar {url}, which is missing: restore it, or delete the {NAME} to "
            "index the remaining tars"
        )
    before.check_files(before.splits)
    return [name for name in tars if name not in listed]


@contextlib.contextmanager
def _cleaned(folders: Folders, tars: Sequence[str]) -> Iterator[None]:
    """Leave no index behind that was not there, unless all goes well; tell where they cannot be written."""
    places = [path for name in tars for path in (folders.index(name), *folders.links(name))]
    new = [path for path in places if not os.path.lexists(path)]
    try:
        yield
    except BaseException as error:
        for path in [*new, *map(folders.staged, tars)]:
            with contextlib.suppress(OSError):
                os.unlink(path)
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write indexes to {folders.out} ({error.strerror}): free some space, or choose a "
                "writable folder with --out"
            ) from None
        raise


def _read_all(
    folders: Folders, splits: dict[str, str], workers: int | None, progress: bool
) -> list[AdoptedTar]:
    """Index all tars; raise InputError with the names of the unreadable ones."""
    blocks = 0
    for name in splits:
        os.makedirs(os.path.dirname(folders.staged(name)), exist_ok=True)
        with contextlib.suppress(OSError):  # told by name when the tar is read
            blocks += blocks_of(os.stat(folders.tar(name)).st_size)
    with Meter(f"indexing {len(splits):,} tars", blocks, "MiB", progress) as meter:
        results = pool.run(functools.partial(adopt_tar, folders), list(splits.items()), meter, workers)
    damaged = [result for result in results if isinstance(result, ShardError)]
    if damaged:
        named = "; ".join(
            f"{os.path.relpath(error.shard, folders.folder)}: {error.what}" for error in damaged[:NAMED]
        )
        more = f"; and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        raise InputError(
            f"{len(damaged)} of the {len(splits)} tars in {folders.folder} cannot be indexed: {named}{more}"
        )
    found = [result for result in results if isinstance(result, AdoptedTar)]
    if not any(tar.shard.nsamples for tar in found):
        raise InputError(f"the tars in {folders.folder} contain no images; check the path")
    return found


def _check_keys(folders: Folders, found: list[AdoptedTar], before: Manifest | None) -> None:
    """Refuse samples that share a key."""
    old = before.shards if before is not None else ()
    names = [*(shard.url for shard in old), *(tar.shard.url for tar in found)]

    def keys_of(number: int) -> list[str]:
        if before is not None and number < len(old):
            return index.read_index(before, old[number]).keys
        return index.from_parquet(Path(folders.staged(names[number])).read_bytes()).keys

    known = [digests(keys_of(number)) for number in range(len(old))]
    for number, keys, home in shared_keys([*known, *(tar.keys for tar in found)], keys_of):
        raise ShardError(
            folders.tar(names[number]),
            f"two samples have the key {keys[0]!r}, the other in {names[home]}: keys must be unique in a "
            "data set; rewrite the tars with different names",
        )


def _understand(found: list[AdoptedTar], before: Manifest | None) -> Labels:
    """Return the classes of all tars; raise ShardError that names a label that is none."""
    texts = {text for tar in found for text in tar.labels}
    try:
        return Labels.of(texts, None if before is None else before.labelling.labels)
    except LabelError as error:
        tar = next(tar for tar in found if error.text in tar.labels)
        key = tar.labels[error.text].key
        raise ShardError(tar.shard.url, f"of the sample {key!r}, {error}") from None


def _tell(found: list[AdoptedTar], labels: Labels) -> None:
    if labels.named:
        say(f"the labels are names of {len(labels.classes):,} classes")
    passed = SkippedFiles.together(tar.passed for tar in found)
    if passed.kinds:
        first = next(tar.shard.url for tar in found if tar.passed.kinds)
        say(f"{passed.tell('member')}, the first in {first}; with --strict this is an error")


def _manifest(folders: Folders, found: list[AdoptedTar], labels: Labels, before: Manifest | None) -> Manifest:
    """Return the manifest of all tars, including those of an earlier one."""
    labelled = Counter(before.labelled if before is not None else {})
    passed = Counter(before.passed_over if before is not None else {})
    ids = before.class_ids if before is not None else ()
    for tar in found:
        labelled[tar.shard.split] += tar.labelled
        passed += tar.passed.kinds
    made_by: dict[str, object] = {"kind": "index", "ccscale": importlib.metadata.version("ccscale")}
    if labels.named:
        made_by["labels"] = NAMES
    if folders.field is not None:
        made_by["label_field"] = folders.field
    if passed:
        made_by["passed_over"] = dict(sorted(passed.items()))
    shards: Iterable[Shard] = (*(before.shards if before is not None else ()), *(tar.shard for tar in found))
    return Manifest(
        folders.out,
        Path(folders.folder).resolve().name if before is None else before.name,
        tuple(sorted(shards, key=lambda shard: shard.url)),
        labels.classes,
        (*ids, *labels.classes[len(ids) :]),
        dict(labelled),
        made_by,
    )
