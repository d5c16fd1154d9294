"""``ccscale sort RUN``: sorts images into one folder per cluster, as links, as copies or only as a table.

::

    OUT/cats/IMG_1.jpg      a cluster's name, or its number; `unassigned` for those that --reject leaves out
    OUT/clusters.csv        predict's table, with the folder and the file of each image; written last
    OUT/coco.json …         for another tool, if requested (`annotation_formats.py`)
    OUT/.parts/             while it is being made: the prediction, which a killed one continues with

Images that cannot be read are reported and left alone.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from ccscale.data.images.extensions import EXTENSIONS
from ccscale.data.images.formats import reader_of
from ccscale.data.reader import SampleReader
from ccscale.data.shards.keys import escaped, unescaped
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.sources.listing import STANDARD_INPUT, list_images
from ccscale.errors import Fault, InputError
from ccscale.evaluate.annotation_formats import EMBEDS, FORMATS, SortedImages, class_of, in_order
from ccscale.evaluate.opened_run import open_shards
from ccscale.evaluate.parts import parts_of
from ccscale.evaluate.parts_folder import PartsFolder
from ccscale.evaluate.predict import PredictOptions, predict_run
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.table import write_table
from ccscale.progress import Meter
from ccscale.rank_environment import RankEnvironment

How = Literal["links", "copies", "csv", "coco", "label-studio", "fiftyone", "datasets"]
PARTS, TABLE = ".parts", "clusters.csv"
UNASSIGNED = "unassigned"
LONGEST = 60  # letters of a folder's name, each of up to four bytes of the 255 that there are


@dataclass(frozen=True)
class ImagesToSort:
    """The images to sort: shards, or files in place.

    Attributes
    ----------
    shards, splits
        As for `predict.predict_run`; None for `files`.
    files
        Folders, files and lists.
    """

    shards: str | None = None
    splits: Sequence[str] | None = None
    files: Sequence[str] = ()


class Origin(Protocol):
    """Where the images come from, and how one is put into its folder."""

    shards: tuple[Shard, ...]

    def name(self, row: dict[str, Any]) -> str:
        """Return the file name for an image."""

    def put(self, number: int, row: dict[str, Any], target: Path) -> Path:
        """Link or copy an image unless it exists; return its path."""

    def data(self, row: Mapping[str, Any]) -> bytes:
        """Return the bytes of the image of a row."""


def sort_run(
    run: str | Path,
    images: ImagesToSort,
    out: Path,
    how: How,
    *,
    reject: Reject | None = None,
    device: str = "auto",
    workers: int | None = None,
    checkpoint: str = "last",
    clusters: int | None = None,
) -> dict[str, Any]:
    """Put every image into the folder of its cluster.

    Parameters
    ----------
    run : str or Path
        The run's folder, or that of an exported network.
    images : ImagesToSort
        What is sorted.
    out : Path
        A new folder, or one that was begun by the same command.
    how : {"links", "copies", "csv", "coco", "label-studio", "fiftyone", "datasets"}
        Links to the files, copies of them, or the table alone. What is in shards can only be copied. Or files for
        another tool: of images that are files they name these, of those in shards copies.
    reject, device, workers, checkpoint, clusters
        As for `predict.predict_run` and `predict.PredictOptions`.

    Returns
    -------
    dict
        As for `predict.predict_run`; ``folders``: how many images each has.

    Raises
    ------
    InputError
        As `predict.predict_run` does, or if the folder holds something else.
    Fault
        If they cannot be written.
    """
    if RankEnvironment.read().world > 1:
        raise InputError("sort runs in one process: start it without torchrun, deepspeed or srun")
    if how == "links" and not images.files:
        raise InputError("images in shards are not files to link to: use --as copies, or --images PATH")
    if STANDARD_INPUT in images.files:
        raise InputError("sort reads the list twice: write it to a file and give that (FILE.txt)")
    _check_outside(out, images.files)
    _begin(out)
    wanted = PredictOptions(f"{out / PARTS}/", reject=reject)
    result = predict_run(
        run,
        images.shards,
        wanted,
        images.splits,
        images=images.files,
        device=device,
        workers=workers,
        checkpoint=checkpoint,
        clusters=clusters,
    )
    assert result is not None
    try:
        if images.files:
            origin: Origin = _Files(images.files, how == "links")
        else:
            origin = _Shards(str(images.shards), images.splits)
        folders = _place(out, origin, how, str(run), copies=not images.files)
    except OSError as error:
        raise Fault(f"{error.filename or out} cannot be written: {error.strerror or error}") from None
    shutil.rmtree(out / PARTS)
    return result | {"out": str(out), "folders": folders}


def _check_outside(out: Path, places: Sequence[str]) -> None:
    """Refuse an output folder inside the source, where the next sort would find its images."""
    for place in filter(os.path.isdir, places):
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(place)):
            raise InputError(f"{out} is inside {place}, the source of the images: choose an --out outside")


def _begin(out: Path) -> None:
    try:
        out.mkdir(exist_ok=True)
        there = os.listdir(out)
    except OSError as error:
        raise InputError(f"the folder {out} cannot be made: {error.strerror}") from None
    if there and PARTS not in there:
        raise InputError(f"{out} is neither empty nor made by an earlier sort; choose another --out")


def _place(out: Path, origin: Origin, how: How, run: str, copies: bool) -> dict[str, int]:
    """Put the images into their folders and write the table; return how many each folder has."""
    folder, parts = PartsFolder(out / PARTS, {}), parts_of(origin.shards)
    names, classes, counts = Counter[tuple[str | None, str]](), set[str | None](), Counter[str]()
    for row in (row for table in folder.tables(parts) for row in table.to_pylist()):
        names[_folder(row), origin.name(row).casefold()] += 1
        classes.add(class_of(row))
    puts = how in ("links", "copies") or (copies and how in FORMATS and how not in EMBEDS)

    def put(number: int, row: dict[str, Any], place: str) -> str:
        if not counts[place]:
            (out / place).mkdir(exist_ok=True)
        name = origin.name(row)
        if names[place, name.casefold()] > 1:
            name = _told_apart(name, row["key"])
        return escaped(origin.put(number, row, out / place / name).name)

    def placed() -> Iterator[pa.Table]:
        number, total = 0, sum(shard.nsamples for shard in origin.shards)
        with Meter("sorting", total, "images", show=True) as meter:
            for table in folder.tables(parts):
                folders, files, paths, first = list[str | None](), list[str | None](), list[str](), number
                for row in table.to_pylist():
                    place = _folder(row)
                    files.append(put(number, row, place) if puts and place is not None else None)
                    folders.append(place)
                    paths.append(
                        f"{escaped(place)}/{files[-1]}"
                        if place and files[-1]
                        else row["origin"] or row["key"]
                    )
                    if place is not None:
                        counts[place] += 1
                    number += 1
                    meter.advance()
                told = {"folder": pa.array(folders, pa.string()), "file": pa.array(files, pa.string())}
                told |= dict(zip(table.column_names, table.columns, strict=True))
                yield pa.table(told | {"number": pa.array(range(first, number)), "path": pa.array(paths)})

    handed: Iterable[pa.Table] = placed()
    if how in FORMATS:
        handed = FORMATS[how](SortedImages(out, run, in_order(classes), handed, origin.data))
    write_table(out / TABLE, (table.drop_columns(["number", "path"]) for table in handed))
    return dict(sorted(counts.items()))


def _folder(row: dict[str, Any]) -> str | None:
    """Return the folder of an image; None for one that cannot be read."""
    cluster = row["cluster"]
    if cluster is None or cluster < 0:
        return None if cluster is None else UNASSIGNED
    called = row.get("name") or str(cluster)
    name = "".join("_" if letter in "/\\" or not letter.isprintable() else letter for letter in called)
    name = name.strip(" .")[:LONGEST].strip()
    return str(cluster) if name in ("", TABLE) else name


def _told_apart(name: str, key: str) -> str:
    """Return a unique name for a file whose name is taken."""
    stem, ending = os.path.splitext(name)
    return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{ending}"


class _Files:
    """Files where they are."""

    def __init__(self, places: Sequence[str], links: bool) -> None:
        self.shards = list_images(places).manifest.shards
        self._links = links

    def name(self, row: dict[str, Any]) -> str:
        return os.path.basename(unescaped(row["origin"]))

    def put(self, number: int, row: dict[str, Any], target: Path) -> Path:
        source = unescaped(row["origin"])
        if self._links:
            if not os.path.lexists(target):
                os.symlink(source, target)
        elif not target.exists():
            part = target.with_name(f".{target.name}.part")
            shutil.copy2(source, part)
            os.replace(part, target)
        return target

    def data(self, row: Mapping[str, Any]) -> bytes:
        return Path(unescaped(row["origin"])).read_bytes()


class _Shards:
    """Images in shards, read again."""

    def __init__(self, shards: str, splits: Sequence[str] | None) -> None:
        manifest, chosen = open_shards(shards, splits)
        self.shards = manifest.select(chosen)
        self._reader = SampleReader(manifest, chosen)

    def name(self, row: dict[str, Any]) -> str:
        return row["key"].replace("/", "_")

    def put(self, number: int, row: dict[str, Any], target: Path) -> Path:
        key, data, _ = self._reader[number]
        if key != row["key"]:
            raise InputError(f"the shards changed during sorting: {key} is now where {row['key']} was")
        target = target.with_name(f"{target.name}.{EXTENSIONS[str(reader_of(data).format).lower()]}")
        if not target.exists():
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(data)
            os.replace(part, target)
        return target

    def data(self, row: Mapping[str, Any]) -> bytes:
        return self._reader[row["number"]].data
