"""Reads the versions of a run's clusters, without a lock; only names are ever written.

Versions never change, so an opened lineage stays consistent during updates.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ccscale import atomic
from ccscale.clusters.arrays import Arrays, read_arrays
from ccscale.clusters.reservoir import Pool, Reservoir
from ccscale.clusters.state import State
from ccscale.clusters.version import NETWORK, PICTURES, TABLES, Event, TableFile, Version
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import LIVING, ClusterNames

if TYPE_CHECKING:
    from ccscale.evaluate.naming import NameChanges, ResolvedNames

FOLDER, CURRENT = "clusters", "current"
PREFIX = "v"


def clusters_of(run: str | Path) -> Path:
    """Return the folder of a run's living clusters."""
    return Path(run) / FOLDER


def is_living(run: str | Path) -> bool:
    """Return whether a run has living clusters."""
    return (clusters_of(run) / CURRENT).exists()


def version_folder(folder: Path, number: int) -> Path:
    """Return where a version is kept."""
    return folder / f"{PREFIX}{number:06d}"


def read_current(folder: Path) -> int:
    """Return the number of the current version of a folder of living clusters: one small file is read.

    Raises
    ------
    InputError
        If the run has no living clusters, or the file is damaged.
    """
    place = folder / CURRENT
    try:
        text = place.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        raise InputError(
            f"{folder.parent} has no living clusters yet; create them with `ccscale lineage init "
            f"{folder.parent}`"
        ) from None
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror}") from None
    if not (text.isascii() and text.isdigit() and version_folder(folder, int(text)).is_dir()):
        there = numbers_of(folder)
        raise InputError(
            f"{place} is damaged: it names no existing version "
            f"({', '.join(map(str, there)) or 'none is'}); set one with `ccscale lineage rollback "
            f"{folder.parent} VERSION`"
        )
    return int(text)


def write_current(folder: Path, number: int) -> None:
    """Make a version the current one atomically."""
    atomic.write_bytes(folder / CURRENT, f"{number}\n".encode())


def numbers_of(folder: Path) -> list[int]:
    """Return the numbers of all versions that are there, rising, on the chain of the current one or not."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    numbers = (name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
    return sorted(int(number) for number in numbers if number.isascii() and number.isdigit())


@dataclass
class Lineage:
    """The versions of a run's clusters.

    Attributes
    ----------
    folder
        ``RUN/clusters``.
    number
        The version that was current when it was opened.
    """

    folder: Path
    number: int
    _read: dict[int, Version] = field(default_factory=dict, repr=False)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder.parent

    @property
    def numbers(self) -> list[int]:
        """All versions, including those that were rolled back."""
        return numbers_of(self.folder)

    @property
    def current(self) -> Version:
        """The version that was current when it was opened."""
        return self.version()

    def version(self, number: int | None = None) -> Version:
        """Return a version, by default the current one.

        Raises
        ------
        InputError
            If there is no such version, or it is damaged.
        """
        number = self.number if number is None else number
        if number not in self._read:
            folder = version_folder(self.folder, number)
            if not folder.is_dir():
                raise InputError(
                    f"there is no version {number} of the clusters of {self.run}; there are "
                    f"{', '.join(map(str, self.numbers))} (`ccscale lineage log {self.run}`)"
                )
            self._read[number] = Version.load(folder)
        return self._read[number]

    def newest(self) -> Version:
        """Return the version with the largest number, rolled back or not: it knows which numbers were ever used."""
        return self.version(self.numbers[-1])

    def chain(self, number: int | None = None) -> list[Version]:
        """Return the versions from the first to this one, each the parent of the next."""
        chain, at = list[Version](), self.version(number)
        while True:
            chain.append(at)
            if at.parent is None:
                return chain[::-1]
            at = self.version(at.parent)

    def events(self, number: int | None = None) -> list[tuple[Version, Event]]:
        """Return all events up to a version, oldest first, each with the version that made it."""
        return [(version, event) for version in self.chain(number) for event in version.events]

    def tables(self, number: int | None = None) -> dict[int, tuple[Version, TableFile]]:
        """Return the tables of a version and its ancestors by number, each with the version that wrote it."""
        return {one.number: (version, one) for version in self.chain(number) for one in version.tables}

    def arrays(self, name: str, number: int | None = None) -> Arrays:
        """Return the arrays of one of a version's files: ``state``, ``pool``, ``reservoir`` or ``proposals``.

        Raises
        ------
        InputError
            If it is damaged.
        """
        version = self.version(number)
        if name not in version.files:
            return {}
        return read_arrays(self.file(name, version), version.files[name].sha256)

    def state(self, number: int | None = None) -> State:
        """Return the clusters of a version: ids, centres and thresholds."""
        return State.of(self.arrays("state", number))

    def pool(self, number: int | None = None) -> Pool:
        """Return the images without a cluster that a version keeps."""
        return Pool.of(self.arrays("pool", number))

    def reservoir(self, number: int | None = None) -> Reservoir:
        """Return the images of each cluster that a version keeps."""
        return Reservoir.of(self.arrays("reservoir", number))

    def names(self) -> dict[int, str]:
        """Return the names of clusters by id; they hold for every version."""
        said = ClusterNames.load(self.folder)
        names = {} if said is None else {one: said.of(one) for one in said.clusters}
        return {one: name for one, name in names.items() if name is not None}

    def name(self, names: Mapping[int, str]) -> None:
        """Name clusters by their ids, as ``ccscale name`` does.

        Parameters
        ----------
        names : mapping of int to str
            By id; "" removes the name.

        Raises
        ------
        InputError
            If there is no such id, or the name is invalid.
        """
        from ccscale.evaluate.naming import NameChanges  # with all of torch

        self.say(NameChanges(names))

    def say(self, changes: "NameChanges") -> "ResolvedNames":
        """Say something of clusters, or nothing; return what is said of them then. Raises as `name` does.

        The first ids were the network's clusters, and are called alike: what is said of them is kept in the run's
        own file, too, for `predict` and reports. So a file of a report's page, of the network's clusters, names
        ids.
        """
        from ccscale.evaluate.naming import ResolvedNames, apply_changes

        first = self.chain()[0]
        found, ids = ClusterNames.load(self.folder), self.newest().next_id
        if changes:
            given = None if changes.file is None else ClusterNames.read(changes.file)
            if given is not None and given.is_of(first.basis.weights, first.basis.head):
                found, changes = given.living(), changes.without_file()
            found = apply_changes(found or ClusterNames(LIVING), LIVING, changes, ids)
            found.save(self.folder)
            before = ClusterNames.load(self.run)
            if before is None or before.is_of(first.basis.weights, first.basis.head):
                found.within(first.next_id, first.basis.model_dump()).save(self.run)
        return ResolvedNames(ids, found, ids=self.state().clusters.tolist())

    def network(self, number: int | None = None) -> Path:
        """Return the folder of a version's network, for `ccscale.load`."""
        kept = self.version(number).files[NETWORK]
        return version_folder(self.folder, kept.version) / NETWORK

    def file(self, name: str, version: Version) -> Path:
        """Return the path of a version's arrays."""
        return version_folder(self.folder, version.files[name].version) / f"{name}.npz"

    def table_path(self, version: Version, table: TableFile) -> Path:
        """Return the path of a table."""
        return version_folder(self.folder, version.number) / TABLES / table.name

    def pictures(self, number: int | None = None) -> dict[str, Path]:
        """Return the pictures of a version's open proposals, by id."""
        version = self.version(number)
        found = {}
        for one in version.open:
            if one.picture is not None and one.drawn is not None:
                found[one.id] = version_folder(self.folder, one.drawn) / PICTURES / one.picture
        return found

    def features(self, table: TableFile) -> Path:
        """Return the feature store of a table's images."""
        return self.folder / table.store  # an absolute one stays so


def open_lineage(run: str | Path) -> Lineage:
    """Open the living clusters of a run at their current version.

    Parameters
    ----------
    run : str or Path
        The run's folder.

    Returns
    -------
    Lineage
        Its versions, events, names and network. Nothing is locked, and later updates do not change it; names hold
        for every version.

    Raises
    ------
    InputError
        If the run has none, or the current version is damaged.
    """
    folder = clusters_of(run)
    lineage = Lineage(folder, read_current(folder))
    lineage.version()
    return lineage
