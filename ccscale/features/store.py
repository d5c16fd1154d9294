"""A feature store: a backbone's features of the images of a data set, computed once and memory-mapped.

::

    STORE/
      features.json            the listing (listing.py)
      train-000000.arrow       the features of one shard, rows in its order (feature_file.py)
      backbone.safetensors     the backbone that made them, and its config.json

Row i is sample i of the shards, counted across splits in the order of the manifest, so a schedule for the shards is
also one for the store.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ccscale.array_types import Float32, Int64
from ccscale.config import Model
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import PixelFacts, Shard
from ccscale.data.shards.pixels import facts_of
from ccscale.errors import InputError, did_you_mean
from ccscale.features.feature_file import decode
from ccscale.features.listing import FeatureFile, Listing, Settings, read_listing
from ccscale.features.neighbour_file import NeighbourFile
from ccscale.features.rows import StoredRows, check_files

BLOCK = 8192  # rows that are examined together, where a caller names no number


class Features:
    """The features of a store. They stay on disk until they are read; the object is small and can be pickled.

    Parameters
    ----------
    folder : str or Path
        What ``ccscale embed`` wrote.
    splits : sequence of str, optional
        Splits to include; default all in the store.
    unfinished : bool, default False
        Accept a store that is still being written, with the rows listed so far.

    Attributes
    ----------
    folder : Path
        The store's.
    listing : Listing
        The contents of ``features.json``.
    files : tuple of FeatureFile
        Those of these splits.
    splits : tuple of str
        These splits.
    rows, width, views : int
        Number of rows (n) and of columns (D), and of random views beside the image as it is (V).

    Raises
    ------
    InputError
        If it is not a store, is incomplete, or lacks a split or file.
    """

    def __init__(
        self, folder: str | os.PathLike[str], splits: Sequence[str] | None = None, unfinished: bool = False
    ) -> None:
        self.folder = Path(folder)
        listing = read_listing(self.folder)
        data = listing.data
        if not listing.complete and not unfinished:
            raise InputError(
                f"{folder} is incomplete: run `ccscale embed {data.root} {folder}` again with the same "
                "options to continue"
            )
        self._hold(listing, data.splits if splits is None else splits)

    def _hold(self, listing: Listing, splits: Sequence[str]) -> None:
        """Take the rows of some splits of what is listed."""
        there = listing.data.splits
        for split in splits:
            if split not in there:
                hint = did_you_mean(split, there) or f"; it has {', '.join(there)}"
                raise InputError(f"{self.folder} has no split {split!r}{hint}")
        files = tuple(file for file in listing.files if file.shard.split in splits)
        check_files(self.folder, files)
        self.listing: Listing = listing
        self.files: tuple[FeatureFile, ...] = files
        self.splits: tuple[str, ...] = tuple(splits)
        self._stored = StoredRows(self.folder, listing, files)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("folder", "listing", "files", "splits")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._stored = StoredRows(self.folder, self.listing, self.files)

    @property
    def settings(self) -> Settings:
        """Everything that the features depend on besides the images."""
        return self.listing.settings

    @property
    def rows(self) -> int:
        """Number of rows, n."""
        return self._stored.count

    @property
    def width(self) -> int:
        """Number of columns, D."""
        return self.listing.width

    @property
    def views(self) -> int:
        """Number of random views, V; view 0 is the image as it is and not counted."""
        return self.settings.views

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of these rows, as in the manifest; a schedule is built from them."""
        return tuple(file.shard for file in self.files)

    @property
    def manifest(self) -> Manifest:
        """The manifest of these shards, without what only their files tell."""
        data = self.listing.data
        labelled = Counter[str]()
        for file in self.files:
            labelled[file.shard.split] += file.labelled
        return Manifest(
            data.root, data.name, self.shards, data.classes, data.class_ids, labelled, {}, self._pixels
        )

    @property
    def _pixels(self) -> PixelFacts | None:
        """What the backbone knows of the numbers of the images that it saw."""
        kept = {name: value for name, value in self.settings.model.items() if name in ("in_chans", "pixels")}
        return facts_of(Model(clusters=2, **kept))

    def manifest_at(self, manifest: Manifest) -> Manifest:
        """Return another manifest of the same data, with these shards in the rows' order and no others."""
        return replace(manifest, shards=self.shards)

    def at(self, splits: Sequence[str]) -> "Features":
        """Return the store, as it was when opened, with the rows of other splits."""
        return self if tuple(splits) == self.splits else self._like(self.listing, splits)

    def holding(self, files: Sequence[FeatureFile]) -> "Features":
        """Return the store with some of its files, in the given order; their rows have no neighbours."""
        listing = self.listing.changed(files=tuple(files), neighbours=None)
        return self._like(listing, self.splits)

    def _like(self, listing: Listing, splits: Sequence[str]) -> "Features":
        other = object.__new__(type(self))
        other.folder = self.folder
        other._hold(listing, splits)
        return other

    @property
    def whole(self) -> "Features":
        """The same store with the rows of all its splits."""
        return self.at(self.listing.data.splits)

    @property
    def manifest_digest(self) -> str:
        """`Manifest.digest` of these splits."""
        return self.manifest.digest(self.splits)

    @property
    def digest(self) -> str:
        """SHA-256 of the features of these splits, which a run on the store pins."""
        return hashlib.sha256(json.dumps([file.sha256 for file in self.files]).encode()).hexdigest()

    @property
    def model(self) -> dict[str, Any]:
        """The backbone that made the features, as keys of the config's section ``model``."""
        return {"backbone": self.settings.backbone, **self.settings.model}

    @property
    def neighbour_section(self) -> dict[str, Any] | None:
        """The listing's entry about neighbours, or None."""
        return self.listing.neighbours

    def neighbours(self, rows: Int64) -> Int64:
        """Return the nearest neighbours of some rows, (m,) -> (m, k) int64, nearest first.

        Entries are -1 for bad rows and for neighbours in splits that are not included.

        Raises
        ------
        InputError
            If the store has none.
        """
        return self.neighbours_and_cosines(rows)[0]

    def neighbours_and_cosines(self, rows: Int64) -> tuple[Int64, Float32]:
        """Return the result of `neighbours`, and the cosine similarity of each to its row."""
        return self._neighbours.take(np.asarray(rows, dtype=np.int64))

    @cached_property
    def _neighbours(self) -> NeighbourFile:
        if self.neighbour_section is None:
            raise InputError(
                f"{self.folder} has no neighbours: compute them with `ccscale embed "
                f"{self.listing.data.root} {self.folder} --neighbours 50`"
            )
        files = self.listing.files
        sizes = np.array([file.rows for file in files], dtype=np.int64)
        opened = np.array([file.shard.split in self.splits for file in files], dtype=bool)
        return NeighbourFile(self.folder, self.neighbour_section, sizes, opened)

    @cached_property
    def labels(self) -> Int64:
        """Class of each row, (n,) int64; -1 if unknown."""
        return self._stored.column("label", np.int64)

    @cached_property
    def bad(self) -> NDArray[np.bool_]:
        """Rows without features (undecodable image or non-finite features), filled with zeros; (n,) bool."""
        return self._stored.column("bad", np.bool_)

    @cached_property
    def keys(self) -> pa.ChunkedArray:
        """Key of each row's sample; n strings, not copied."""
        return pa.chunked_array(self._stored.chunks("key"), pa.string())

    def array(self, view: int = 0, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return a view's features of consecutive rows, in the stored type.

        Parameters
        ----------
        view : int, default 0
            0 is the image as it is.
        start, stop : int
            The rows; all by default.

        Returns
        -------
        numpy.ndarray
            (stop - start, D): float16, float32, or bfloat16's bits as uint16. Mapped, not copied, where the rows
            are of one block (see `arrays`).
        """
        pieces = list(self._stored.pieces(view, start, self.rows if stop is None else stop))
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, self.width), self._stored.kind)

    def arrays(self, view: int = 0) -> Iterator[NDArray[Any]]:
        """Yield a view's features block by block, (m, D) each, in the stored type: mapped, not copied."""
        return self._stored.pieces(view, 0, self.rows)

    def blocks(self, view: int = 0, size: int = BLOCK) -> Iterator[tuple[int, Float32]]:
        """Yield the index of the first row and the features, (size, D) float32, of consecutive rows.

        Parameters
        ----------
        view : int, default 0
            0 is the image as it is.
        size : int
            Rows per block; the last one may have fewer.
        """
        for start in range(0, self.rows, size):
            yield start, self.take(np.arange(start, min(start + size, self.rows)), view)

    def take(self, rows: Int64, views: int | Int64 = 0) -> Float32:
        """Return the features of some rows.

        Parameters
        ----------
        rows : numpy.ndarray
            (m,) int64, in any order.
        views : int or numpy.ndarray
            One view for all rows, or one for each, (m,).

        Returns
        -------
        numpy.ndarray
            (m, D) float32.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.rows:
            raise IndexError(f"there are {self.rows} rows")
        kept = np.empty((len(rows), self.width), self._stored.kind)
        of_view = np.broadcast_to(np.asarray(views, dtype=np.int64), rows.shape)
        for view in np.unique(of_view).tolist():
            places = np.flatnonzero(of_view == view)
            self._stored.copy(view, rows[places], kept, places)
        return decode(kept).numpy()

    def mean(self, rows: Int64) -> Float32:
        """Return the mean of the features over all views, including the unaugmented image; (m, D) float32."""
        total = self.take(rows)
        for view in range(1, self.views + 1):
            total += self.take(rows, view)
        return total / np.float32(self.views + 1)


def open_features(folder: str | os.PathLike[str], splits: Sequence[str] | None = None) -> Features:
    """Open a feature store.

    Parameters
    ----------
    folder : str or Path
        What ``ccscale embed`` wrote.
    splits : sequence of str, optional
        Splits to include; default all.

    Returns
    -------
    Features
        The store; its rows stay on disk until they are read.

    Raises
    ------
    InputError
        If it is not a store, is incomplete, or lacks a split or file.
    """
    return Features(folder, splits)
