"""Human names of clusters: a name, joined to another cluster, or junk. They move no image to another cluster.

RUN/names.json            of the clusters of the run's network, by their numbers; void once another network serves
RUN/clusters/names.json   of living clusters, by their ids, at all versions

::

    {"format": "ccscale-names", "version": 1, "basis": {"step": 900, "weights": SHA-256, "head": 0},
     "clusters": {"3": {"name": "cats"}, "5": {"into": 3}, "7": {"junk": true}}}

The report saves the same file, which ``ccscale name`` reads. For living clusters the basis is ``{"lineage":
true}``: ids never change their meaning.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.errors import InputError
from ccscale.printing import visible

FILE = "names.json"
FORMAT, VERSION = "ccscale-names", 1
LIVING = {"lineage": True}
JUNK = "junk"
LONGEST = 200


@dataclass(frozen=True)
class ClusterNames:
    """Names of clusters.

    Attributes
    ----------
    basis
        Whose clusters they are: ``step``, ``weights`` and ``head`` of a network, or `LIVING`.
    names
        By cluster.
    into
        The cluster that each joined cluster is joined to.
    junk
        Clusters without usable images.
    """

    basis: Mapping[str, Any]
    names: Mapping[int, str] = field(default_factory=dict)
    into: Mapping[int, int] = field(default_factory=dict)
    junk: frozenset[int] = frozenset()

    def is_of(self, weights: str, head: int) -> bool:
        """Return whether they belong to a network with that serving head."""
        return (self.basis.get("weights"), self.basis.get("head")) == (weights, head)

    def whole(self, cluster: int) -> int:
        """Return the cluster that a cluster is finally joined to, or itself."""
        while cluster in self.into:
            cluster = self.into[cluster]
        return cluster

    def of(self, cluster: int, otherwise: Sequence[str | None] | None = None) -> str | None:
        """Return the name of a cluster; None if it has none.

        A joined cluster has the name or number of the other one; junk is always named `JUNK`.
        """
        whole = self.whole(cluster)
        if whole in self.junk or cluster in self.junk:
            return JUNK
        found = self.names.get(whole) or (None if otherwise is None else otherwise[whole])
        return found or (str(whole) if whole != cluster else None)

    @property
    def digest(self) -> str:
        """The SHA-256 of the content."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def clusters(self) -> list[int]:
        """Clusters with an entry, ascending."""
        return sorted({*self.names, *self.into, *self.junk})

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return the entries as in the file."""
        return {
            str(cluster): {
                **({"name": self.names[cluster]} if cluster in self.names else {}),
                **({"into": self.into[cluster]} if cluster in self.into else {}),
                **({"junk": True} if cluster in self.junk else {}),
            }
            for cluster in self.clusters
        }

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        content = {"format": FORMAT, "version": VERSION, "basis": self.basis, "clusters": self.as_json()}
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

    def save(self, folder: Path) -> None:
        """Write them into a folder atomically."""
        atomic.write_bytes(folder / FILE, self.to_bytes())

    def living(self) -> "ClusterNames":
        """Return the names for living clusters whose ids are these numbers."""
        return replace(self, basis=LIVING)

    def within(self, clusters: int, basis: Mapping[str, Any]) -> "ClusterNames":
        """Return the names of the clusters below a number, with another basis."""
        return ClusterNames(
            basis,
            {cluster: name for cluster, name in self.names.items() if cluster < clusters},
            {cluster: into for cluster, into in self.into.items() if max(cluster, into) < clusters},
            frozenset(cluster for cluster in self.junk if cluster < clusters),
        )

    def named(self, cluster: int, name: str) -> "ClusterNames":
        """Return the names with a new one for a cluster; "" removes all its entries.

        Raises
        ------
        InputError
            If that is no name.
        """
        name = name.strip()
        kept = _without(self.names, cluster)
        if name:
            return replace(self, names=kept | {cluster: _checked(cluster, name)})
        return replace(self, names=kept, into=_without(self.into, cluster), junk=self.junk - {cluster})

    def joined(self, cluster: int, into: int) -> "ClusterNames":
        """Return the names with a cluster joined to another one.

        Raises
        ------
        InputError
            If they are the same, or already joined.
        """
        free = replace(self, into=_without(self.into, cluster))
        if free.whole(into) == cluster:
            raise InputError(
                f"cluster {cluster} cannot be joined to {into}, which is the same cluster or already "
                "joined to it"
            )
        return replace(free, into=dict(free.into) | {cluster: into}, junk=self.junk - {cluster})

    def marked(self, cluster: int) -> "ClusterNames":
        """Return the names with a cluster marked as junk."""
        return replace(self, into=_without(self.into, cluster), junk=self.junk | {cluster})

    def check(self, clusters: int) -> None:
        """Refuse entries of clusters that do not exist.

        Raises
        ------
        InputError
            If one is not under `clusters`.
        """
        for cluster in (*self.clusters, *self.into.values()):
            if not 0 <= cluster < clusters:
                raise InputError(f"there is no cluster {cluster}: they are numbered from 0 to {clusters - 1}")

    @classmethod
    def load(cls, folder: Path) -> "ClusterNames | None":
        """Read those of a folder; None if it has none.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        path = folder / FILE
        return cls.read(path) if path.exists() else None

    @classmethod
    def read(cls, path: Path) -> "ClusterNames":
        """Read a file of names.

        Raises
        ------
        InputError
            If it cannot be read, is none, or contradicts itself.
        """
        try:
            content = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError("it is of another format")
            if content["version"] > VERSION:
                raise ValueError("it is of a later release")
            result = cls(dict(content["basis"]))
            for number, said in content["clusters"].items():
                cluster = int(number)
                if "name" in said:
                    result = result.named(cluster, said["name"])
                if said.get("junk") is True:
                    result = result.marked(cluster)
                if "into" in said:
                    result = result.joined(cluster, int(said["into"]))
            return result
        except InputError as error:
            raise InputError(f"the names in {path} contradict themselves: {error}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} holds no names of clusters ({error}); save them in the page that `ccscale report` writes"
            ) from None


def _without(said: Mapping[int, Any], cluster: int) -> dict[int, Any]:
    return {one: what for one, what in said.items() if one != cluster}


def _checked(cluster: int, name: str) -> str:
    if len(name) > LONGEST or visible(name) != name:
        raise InputError(
            f"the name of cluster {cluster} has a control character or more than {LONGEST} letters"
        )
    return name
