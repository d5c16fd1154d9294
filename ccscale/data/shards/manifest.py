"""The manifest of a data set in shards, ``dataset.json`` in the same folder, which is written last.

Its layout is in `manifest_file.py`. It contains no timestamps and no absolute paths: the same input gives the
same bytes.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ccscale import atomic
from ccscale.data.remote import location
from ccscale.data.remote.ranges import Remote
from ccscale.data.remote.retry import Patience, Unreachable
from ccscale.data.shards.keys import valid
from ccscale.data.shards.labels import Labelling, Labels
from ccscale.data.shards.manifest_file import KIND, VERSION, PixelFacts, Shard, parse
from ccscale.errors import InputError, did_you_mean

NAME = "dataset.json"
NAMES = "names"  # of classes are what the tars have as labels, as `made_by` says
RETRY_SECONDS = 20.0
INDEX_IT = "`ccscale shards index {root}` makes a manifest for tars that others made"


@dataclass(frozen=True)
class Manifest:
    """The content of a folder of shards.

    Attributes
    ----------
    root
        The folder: a local path or an fsspec URL.
    name
        The data set's name.
    shards
        In the order of the file.
    classes, class_ids
        Names for people and for machines, in the order of the labels; empty where there are no labels.
    labelled
        Split to the number of its samples that have a label.
    made_by
        Kind of source, options and version of ccscale.
    pixels
        What was measured of images that are kept as they are stored, channel by channel; None: they are RGB of 8
        bits.
    """

    root: str
    name: str
    shards: tuple[Shard, ...]
    classes: tuple[str, ...]
    class_ids: tuple[str, ...]
    labelled: dict[str, int]
    made_by: dict[str, Any]
    pixels: PixelFacts | None = None

    @classmethod
    def load(cls, root: str | os.PathLike[str], retry_seconds: float = RETRY_SECONDS) -> "Manifest":
        """Read the manifest in a folder.

        Parameters
        ----------
        root
            A local folder or an fsspec URL.
        retry_seconds
            A remote one that cannot be read is tried again for this long.

        Raises
        ------
        InputError
            If it is missing, cannot be read, or contradicts itself; with the remedy.
        """
        place = location.local_or_url(root)
        data = _read(place, retry_seconds)
        content = parse(data, location.join(place, NAME), INDEX_IT.format(root=place))
        section = content.ccscale
        return cls(
            root=place,
            name=content.name,
            shards=content.shardlist,
            classes=section.classes,
            class_ids=section.class_ids,
            labelled={split: entry.labelled for split, entry in section.splits.items()},
            made_by=section.made_by,
            pixels=section.pixels,
        )

    def save(self) -> None:
        """Write ``dataset.json`` into the local folder `root` atomically.

        Raises
        ------
        InputError
            If `load` would refuse it.
        """
        splits = {
            split: {"samples": samples, "shards": shards, "labelled": self.labelled.get(split, 0)}
            for split, (samples, shards) in self.splits.items()
        }
        content = {
            "__kind__": KIND,
            "wids_version": 1,
            "name": valid(self.name),
            "shardlist": [asdict(shard) for shard in self.shards],
            "ccscale": {
                "version": 1 if self.pixels is None else VERSION,
                "splits": splits,
                "classes": self.classes,
                "class_ids": self.class_ids,
                "made_by": self.made_by,
                **({} if self.pixels is None else {"pixels": self.pixels.model_dump(mode="json")}),
            },
        }
        place = os.path.join(self.root, NAME)
        try:
            data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{place} cannot be written: {error.object!r} is not valid UTF-8") from None
        parse(data, place, "it is not written")
        atomic.write_bytes(place, data)

    @property
    def shown(self) -> tuple[int, ...] | None:
        """The channels that pictures show, of images of channels; see `open_picture`."""
        return None if self.pixels is None else self.pixels.shown

    @property
    def labelling(self) -> Labelling:
        """How the labels are written in the tars, as `adopt` found them; elsewhere they are numbers."""
        field = self.made_by.get("label_field")
        named = self.made_by.get("labels") == NAMES
        return Labelling(Labels(self.classes, named), field if isinstance(field, str) else None)

    @property
    def passed_over(self) -> dict[str, int]:
        """Kind of the tars' members that are in no sample to their number, as `adopt` counted them."""
        found = self.made_by.get("passed_over")
        found = found if isinstance(found, dict) else {}
        return {kind: count for kind, count in found.items() if isinstance(count, int)}

    @property
    def is_local(self) -> bool:
        """Whether the folder is a local path."""
        return not location.is_url(self.root)

    @property
    def splits(self) -> dict[str, tuple[int, int]]:
        """Split to its numbers of (samples, shards), in the manifest's order."""
        counts: dict[str, tuple[int, int]] = {}
        for shard in self.shards:
            samples, shards = counts.get(shard.split, (0, 0))
            counts[shard.split] = (samples + shard.nsamples, shards + 1)
        return counts

    def select(self, splits: Iterable[str]) -> tuple[Shard, ...]:
        """Return the shards of some splits, in the manifest's order.

        Raises
        ------
        InputError
            For a split that the data set does not have.
        """
        wanted, known = set(splits), self.splits
        for split in sorted(wanted - set(known)):
            hint = did_you_mean(split, known) or f"; it has {', '.join(known)}"
            raise InputError(f"{self.root} has no split {split!r}{hint}")
        return tuple(shard for shard in self.shards if shard.split in wanted)

    def locate(self, shard: Shard) -> str:
        """Return the path or URL of a shard."""
        return location.join(self.root, shard.url)

    def digest(self, splits: Iterable[str]) -> str:
        """Return the SHA-256 of the names, counts and contents of some splits' shards: what a run pins."""
        facts = [[shard.url, shard.nsamples, shard.sha256] for shard in self.select(splits)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def check_files(self, splits: Iterable[str]) -> None:
        """Check that the local shards of some splits exist and have the manifest's sizes.

        Shards behind URLs are not looked at.

        Raises
        ------
        InputError
            That names the first shard that is missing or of another size.
        """
        for shard in self.select(splits):
            if (wrong := self.problem_of(shard)) is not None:
                raise InputError(
                    f"{self.locate(shard)} does not match its manifest {location.join(self.root, NAME)}: "
                    f"{wrong}; run `ccscale shards verify {self.root}`"
                )

    def problem_of(self, shard: Shard) -> str | None:
        """Return what is wrong with a local shard's file, as far as its size tells; None where nothing is."""
        path = self.locate(shard)
        if location.is_url(path):
            return None
        try:
            size = os.stat(path).st_size
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return None if size == shard.filesize else f"it has {size} bytes, not {shard.filesize}"


def _read(root: str, retry_seconds: float) -> bytes:
    """Return the manifest's bytes, or say why there are none."""
    place = location.join(root, NAME)
    try:
        if location.is_url(place):
            return bytes(Remote(Patience(retry_seconds)).read_all(place))
        with open(place, "rb") as file:
            return file.read()
    except FileNotFoundError:
        pass
    except Unreachable as error:
        raise InputError(f"{error}; check the address and the network") from None
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error}; check the path and its permissions") from None
    try:
        names = location.list_names(root)
    # Many web servers do not list folders, and an object store has none: then all we know is that it is missing.
    except Exception:
        names = []
    if any(name.endswith(".tar") or ".tar." in name for name in names):
        raise InputError(f"{root} contains tars but no {NAME}: {INDEX_IT.format(root=root)}")
    missing = (
        f"{root} has no {NAME}"
        if location.is_url(root) or os.path.isdir(root)
        else f"there is no folder {root}"
    )
    raise InputError(f"{missing}; give a folder of shards, or make one with `ccscale shards make`")
