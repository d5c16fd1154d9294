"""A version of living clusters: ``version.json``, validated when it is read, with its own hash last.

A file of arrays is written in the version where it changed; other versions refer to that one. An image is
identified by a `ref`, an integer: the number of its table, and its row there.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from ccscale import atomic
from ccscale.array_types import Int64
from ccscale.clusters.arrays import REMEDY
from ccscale.config.section import Count, Positive
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import InputError
from ccscale.features.listing import Listed, Name, Settings

FILE = "version.json"
FORMAT, VERSION = "ccscale-clusters", 1
TABLES, PICTURES, NETWORK, CHANGES = "tables", "pictures", "network", "changes.parquet"
ROW_BITS = 32

Why = Literal["init", "update", "accept", "refuse", "reassign", "retrain"]


def refs_of(table: int | Int64, rows: Int64) -> Int64:
    """Return the refs of rows (n,) of a table, or each of its own (n,)."""
    return (np.asarray(table, np.int64) << ROW_BITS) | rows.astype(np.int64)


def tables_and_rows(refs: Int64) -> tuple[Int64, Int64]:
    """Return the table's number and the row of each ref, (n,) both."""
    return refs >> ROW_BITS, refs & ((1 << ROW_BITS) - 1)


class Event(Listed):
    """A line of the lineage.

    Attributes
    ----------
    kind
        What became of `ids`: ``founded`` with the lineage; ``born`` of images that fitted nowhere; ``split`` from
        `others`; ``merged`` into `others`; ``retired``.
    ids, others
        The clusters that it happened to, and those that it happened with.
    images
        How many images have these ids by it.
    proposal
        That was accepted.
    sentence
        As a sentence.
    """

    kind: Literal["founded", "born", "split", "merged", "retired"]
    ids: tuple[Count, ...]
    others: tuple[Count, ...] = ()
    images: Count = 0
    proposal: str | None = None
    sentence: str = ""


class Proposed(Listed):
    """A change that the data suggest, and somebody is to accept or refuse.

    Attributes
    ----------
    id
        ``p1``, ``p2`` …: of one lineage, never used again.
    kind
        ``birth``, ``merge`` or ``split``.
    ids
        The clusters concerned.
    images
        How many images are, of those that are kept.
    since
        The version that proposed it first.
    refused
        The version that refused it; it is kept, so that it is not proposed again.
    facts
        Figures.
    sentence
        As a sentence.
    picture, drawn
        Its file, in the folder of pictures of the version `drawn`.
    """

    id: str
    kind: Literal["birth", "merge", "split"]
    ids: tuple[Count, ...] = ()
    images: Count = 0
    since: Positive
    refused: Positive | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    sentence: str = ""
    picture: Name | None = None
    drawn: Positive | None = None


class DataSet(Listed):
    """A data set with images in the tables.

    Attributes
    ----------
    name
        Its own, and a number behind it where two have one name.
    root
        Where its shards were when they were assigned last.
    """

    name: str
    root: str


class TableFile(Listed):
    """A table: the images of a shard, with what they were assigned.

    Attributes
    ----------
    number
        Of one lineage, never used again.
    name
        Of the file.
    data
        Name of the data set.
    shard
        As the store lists it.
    store
        Of its features; a relative one lies in the folder of the clusters.
    rows, unassigned, bad
        Images; those of them without a cluster; those without features.
    sha256
        Of the file.
    drift
        How the shard differs from what the clusters were founded on; empty of the shards that they were founded on.
    """

    number: Count
    name: Name
    data: str
    shard: Shard
    store: str
    rows: Count
    unassigned: Count = 0
    bad: Count = 0
    sha256: str
    drift: dict[str, Any] = Field(default_factory=dict)


class Kept(Listed):
    """Where a file of a version is: in the version where it last changed, with its hash."""

    version: Positive
    sha256: str


class NetworkBasis(Listed):
    """The network whose clusters they are: step and SHA-256 of the run's checkpoint, and the head that serves."""

    step: Count
    weights: str
    head: Count = 0

    @property
    def origin(self) -> str:
        """Return what is said of features by it: the same wherever the run lies."""
        return f"living clusters, network {self.weights[:12]}, step {self.step}"


class Version(Listed):
    """All of ``version.json``.

    Attributes
    ----------
    number, parent
        Its own, and that of the version it came from; None of the first.
    why
        What made it.
    when
        UTC, to the second, as ISO 8601; when the command began.
    asked
        What the command was asked, as a sentence.
    basis
        The network.
    backbone
        What makes the features, as their store lists it.
    seed
        Of all random choices.
    next_id, next_table, next_proposal
        The least numbers that no version has used.
    data
        All data sets so far.
    tables
        Those that this version wrote.
    changes, changed
        SHA-256 of the table of images whose id it changed one by one, and how many it changed at all.
    renamed
        Ids of which all images have another one from this version on: merged clusters.
    events, proposals
        See there; the proposals are all that are open or refused.
    files
        ``state``, ``pool``, ``reservoir``, ``proposals``, ``network``: where they are.
    counts
        Over the chain of versions: ``images``, of these ``assigned``, ``unassigned``, ``bad`` (without features).
    """

    number: Positive
    parent: Positive | None = None
    why: Why
    when: str
    asked: str = ""
    basis: NetworkBasis
    backbone: Settings
    seed: Count = 0
    next_id: Count
    next_table: Count
    next_proposal: Positive = 1
    data: tuple[DataSet, ...] = ()
    tables: tuple[TableFile, ...] = ()
    changes: str | None = None
    changed: Count = 0
    renamed: dict[int, int] = Field(default_factory=dict)
    events: tuple[Event, ...] = ()
    proposals: tuple[Proposed, ...] = ()
    files: dict[str, Kept] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)

    @property
    def open(self) -> tuple[Proposed, ...]:
        """The proposals that are neither accepted nor refused."""
        return tuple(one for one in self.proposals if one.refused is None)

    @property
    def alarms(self) -> dict[str, str]:
        """The alarms of this version's shards, by the table's name."""
        return {one.name: one.drift["alarm"] for one in self.tables if one.drift.get("alarm")}

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        head = {"format": FORMAT, "version": VERSION, "ccscale": version_of("ccscale")}
        content = json.loads(json.dumps(head | self.model_dump(mode="json")))
        content["sha256"] = _hash(content)
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

    def save(self, folder: Path) -> None:
        """Write it atomically."""
        atomic.write_bytes(folder / FILE, self.to_bytes())

    @classmethod
    def load(cls, folder: Path) -> "Version":
        """Read it.

        Raises
        ------
        InputError
            If it is damaged, or of a later release.
        """
        place = folder / FILE
        try:
            content = json.loads(place.read_bytes())
            kept = content.pop("sha256")
            if content["format"] != FORMAT or kept != _hash(content):
                raise ValueError("its contents do not match its hash")
            if content["version"] != VERSION:
                raise InputError(
                    f"{place} has format {content['version']!r} and this ccscale reads format {VERSION}: upgrade "
                    "ccscale"
                )
            return cls.model_validate({name: content[name] for name in cls.model_fields if name in content})
        except OSError as error:
            raise InputError(f"{place} cannot be read ({error.strerror}); {REMEDY}") from None
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            why = (
                "its contents do not match its hash" if isinstance(error, ValueError) else "it is no version"
            )
            raise InputError(f"{place} is damaged ({why}); {REMEDY}") from None


def counts(tables: Sequence[TableFile], before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return how many images have an id, none, or no features, and all; added to those `before`."""
    images, unassigned, bad = (
        sum(getattr(one, name) for one in tables) for name in ("rows", "unassigned", "bad")
    )
    found = {"images": images, "assigned": images - unassigned - bad, "unassigned": unassigned, "bad": bad}
    return {name: number + (before or {}).get(name, 0) for name, number in found.items()}


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
