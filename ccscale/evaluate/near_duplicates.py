"""``ccscale duplicates STORE``: finds near-duplicates among neighbours, by pixels or by cosine alone.

::

    OUT/pairs.parquet     key, other, cosine, split, other_split, origin, other_origin
        groups.parquet    group, key, kept, cosine (to the kept one), split, origin, width, height
        keep.txt          the keys of all images to keep, one per line
        duplicates.png    the largest groups, the kept image first

If the shards cannot be read, origin, width and height are null, and there is no picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ccscale import atomic, dist
from ccscale.array_types import Int64
from ccscale.data.images.channels import open_picture
from ccscale.data.reader import SampleReader
from ccscale.data.remote.retry import RemoteError
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.manifest import Manifest
from ccscale.device import pick_device
from ccscale.draw.contact_sheet import TILE, Row, draw_sheet
from ccscale.draw.tiles import each_tile
from ccscale.errors import BadImage, Fault, InputError
from ccscale.evaluate.pixel_similarity import pairs_by_pixels
from ccscale.features.near_pairs import NearPairs, groups_of, near_pairs
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import Features, open_features
from ccscale.features.vectors import Vectors
from ccscale.process_group import process_group
from ccscale.progress import Meter, say
from ccscale.rank_environment import RankEnvironment
from ccscale.wording import counted

NEIGHBOURS = 50  # that are found where the store has none
FOLDER = "duplicates"  # in the store, where no other is named
ROWS, COLUMNS = 40, 10


def find_duplicates(
    store: str | Path,
    above: float | None = None,
    *,
    out: str | Path | None = None,
    keep: str = "resolution",
    shards: str | None = None,
    splits: Sequence[str] | None = None,
    device: str = "auto",
) -> dict[str, Any] | None:
    """Write the pairs and groups of near-duplicates of a store; all ranks call it together.

    Parameters
    ----------
    store : str or Path
        The store's folder. Where it has no neighbours they are found, and kept in it.
    above : float, optional
        Least cosine of a pair, to compare features only. By default pixels are compared (`pixel_similarity.py`),
        which needs the shards.
    out : str or Path, optional
        A folder; ``duplicates`` in the store by default.
    keep : str, default "resolution"
        Which image of a group is kept: of the most pixels (then of the most bytes, then the first), or the first
        (``order``).
    shards : str, optional
        Where the images are now; by default where the store was made of them.
    splits : sequence of str, optional
        All by default.
    device : str, default "auto"
        See ``train.device``.

    Returns
    -------
    dict or None
        On rank 0: ``images``, ``above``, ``k``, ``pairs``, ``across`` (of two splits), ``groups``, ``left_out``
        (images that are not kept), ``crowded`` (images all of whose k neighbours are above), ``recall`` of the
        neighbours, ``keep``, ``out``, ``sheet``. None elsewhere.

    Raises
    ------
    InputError
        If the store is not there, the threshold no cosine, or the images are to be looked at and cannot be read.
    """
    if above is not None and not 0 < above <= 1:
        raise InputError(f"--above is {above}: give a cosine above 0, at most 1")
    features = _open_with_neighbours(store, splits, device)
    if features is None:
        return None
    images = _Images(features, shards)
    pairs = _pairs(features, images, above)
    groups = groups_of(pairs, features.rows)
    images.open(np.concatenate(groups) if groups else np.empty(0, np.int64))
    if keep == "resolution" and not images.readable:
        say(f"the first image of each group is kept, as the shards cannot be read: {images.reason}")
        keep = "order"
    kept = [images.largest(group) if keep == "resolution" else int(group[0]) for group in groups]
    folder = Path(out) if out is not None else features.folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    of_split = np.repeat(
        [file.shard.split for file in features.files], [file.rows for file in features.files]
    )
    _write_pairs(folder / "pairs.parquet", features, pairs, of_split, images)
    left_out = _write_groups(folder / "groups.parquet", features, groups, kept, of_split, images)
    stays = np.setdiff1d(np.arange(features.rows), left_out)
    names = features.keys.take(pa.array(stays)).to_pylist()
    atomic.write_bytes(folder / "keep.txt", "".join(f"{name}\n" for name in names).encode())
    sheet = folder / "duplicates.png"
    if images.readable and groups:
        _draw(sheet, features, groups, kept, images, above)
    section = features.neighbour_section or {}
    return {
        "store": str(store),
        "images": features.rows,
        "above": above,
        "k": section["k"],
        "recall": section["recall"],
        "pairs": len(pairs.first),
        "across": int((of_split[pairs.first] != of_split[pairs.second]).sum()),
        "groups": len(groups),
        "left_out": len(left_out),
        "crowded": len(pairs.crowded),
        "keep": keep,
        "out": str(folder),
        "sheet": str(sheet) if images.readable and groups else None,
    }


def _open_with_neighbours(store: str | Path, splits: Sequence[str] | None, device: str) -> Features | None:
    """Return a store, whose neighbours are found where it has none; None on other ranks than the first."""
    env = RankEnvironment.read()
    with process_group(env, pick_device(device, env.local_rank)):
        features = dist.together(lambda: open_features(store, splits))
        if features.neighbour_section is None:
            find_neighbours(features, NEIGHBOURS, device=device)
            features = open_features(store, splits)
        return None if dist.rank() else features


def _pairs(features: Features, images: "_Images", above: float | None) -> NearPairs:
    """Return the pairs by their features alone, where there is a least cosine; else by how they look."""
    if above is not None:
        return near_pairs(features, above)
    if images.readable:
        return pairs_by_pixels(features, images.reader)
    raise InputError(
        f"the images of {features.folder} cannot be read ({images.reason}): give their shards with --shards, or "
        "use --above 0.97 to compare features only"
    )


class _Images:
    """The images of a store's rows, where the shards can be read: origins and sizes of those that are opened."""

    def __init__(self, features: Features, shards: str | None) -> None:
        self.origins: dict[int, str | None] = {}
        self.sizes: dict[int, tuple[int, int, int]] = {}
        self.reason = ""
        try:
            manifest = Manifest.load(shards or features.listing.data.root)
            if manifest.digest(features.splits) != features.manifest_digest:
                raise InputError(f"{manifest.root} does not contain the images that the store was made from")
            self.reader = SampleReader(manifest, features.splits, origins=True)
            if features.rows:
                self.reader.origin(0)
        except (InputError, Fault, ShardError, RemoteError) as error:
            if shards is not None:
                raise
            self.reason = str(error)

    def open(self, rows: Int64) -> None:
        """Read the origins and sizes of some."""
        with Meter("reading images", len(rows), "images", show=self.readable) as meter:
            for row in rows.tolist() if self.readable else ():
                self.origins[row] = self.reader.origin(row)
                self.sizes[row] = self._size(row)
                meter.advance()

    @property
    def readable(self) -> bool:
        """Whether the shards can be read."""
        return not self.reason

    def _size(self, row: int) -> tuple[int, int, int]:
        data = self.reader[row].data
        try:
            image = open_picture(data, self.reader.shown)
        except BadImage:
            return 0, 0, len(data)
        return image.width, image.height, len(data)

    def largest(self, group: Int64) -> int:
        """Return the image with the most pixels, then the most bytes, then the first."""

        def rank(row: int) -> tuple[int, int, int]:
            width, height, size = self.sizes[row]
            return -width * height, -size, row

        return min(group.tolist(), key=rank)


def _write_pairs(
    path: Path, features: Features, pairs: NearPairs, of_split: np.ndarray, images: _Images
) -> None:
    def columns(rows: Int64, name: str, before: str) -> dict[str, pa.Array]:
        origins = [images.origins.get(row) for row in rows.tolist()]
        return {
            name: features.keys.take(pa.array(rows)),
            f"{before}split": pa.array(of_split[rows], pa.string()),
            f"{before}origin": pa.array(origins, pa.string()),
        }

    cosine = {"cosine": pa.array(pairs.cosines, pa.float32())}
    both = columns(pairs.first, "key", "") | columns(pairs.second, "other", "other_")
    _write(path, both | cosine)


def _write_groups(
    path: Path,
    features: Features,
    groups: list[Int64],
    kept: list[int],
    of_split: np.ndarray,
    images: _Images,
) -> Int64:
    """Write the table of groups, and return the rows that are not kept."""
    rows = np.concatenate([np.empty(0, np.int64), *groups])
    sizes = [len(group) for group in groups]
    stays = np.repeat(np.array(kept, np.int64), sizes)
    vectors = Vectors(np.arange(features.rows), features.width, features.take).scaled()
    cosines = [np.empty(0, np.float32)]
    for start in range(0, len(rows), 8192):
        some = slice(start, start + 8192)
        cosines.append((vectors.take(rows[some]) * vectors.take(stays[some])).sum(1).numpy())
    shapes = [images.sizes.get(row, (None, None, None)) for row in rows.tolist()]
    _write(
        path,
        {
            "group": pa.array(np.repeat(np.arange(len(groups)), sizes), pa.int64()),
            "key": features.keys.take(pa.array(rows)),
            "kept": pa.array(rows == stays),
            "cosine": pa.array(np.concatenate(cosines), pa.float32()),
            "split": pa.array(of_split[rows], pa.string()),
            "origin": pa.array([images.origins.get(row) for row in rows.tolist()], pa.string()),
            "width": pa.array([shape[0] for shape in shapes], pa.int32()),
            "height": pa.array([shape[1] for shape in shapes], pa.int32()),
        },
    )
    return rows[rows != stays]


def _write(path: Path, columns: dict[str, Any]) -> None:
    with atomic.replacing(path, hidden=True) as file:
        pa.parquet.write_table(pa.table(columns), file)


def _draw(
    path: Path, features: Features, groups: list[Int64], kept: list[int], images: _Images, above: float | None
) -> None:
    """Draw the largest groups, a line each, the kept image first."""

    def line(group: Int64, first: int) -> Row:
        shown = [first, *(row for row in group.tolist() if row != first)][:COLUMNS]
        tiles = each_tile(images.reader, shown, TILE)
        return Row(features.keys[first].as_py(), counted(len(group), "image"), tiles)

    shown = list(zip(groups, kept, strict=True))[:ROWS]
    how = "that look alike" if above is None else f"with a cosine of {above:g} or more"
    heading = f"{counted(len(groups), 'group')} of images {how}, the largest first"
    draw_sheet(path, heading, (line(*one) for one in shown), len(shown), COLUMNS)
