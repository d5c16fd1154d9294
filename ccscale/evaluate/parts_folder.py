"""A table in parts, written by W ranks as files that are either complete or absent.

::

    FOLDER/_predict.json                         whose parts these are; written first
    FOLDER/train-000017.000008192.parquet        a part (`parts.py`): shard, first sample
    FOLDER/.train-000017.000008192.parquet.part  one that is being written

pandas, pyarrow and Spark ignore the names of all files other than parts, so they can read the folder as one
table, even while it grows. Earlier releases named the first file ``predict.json``.

A file with its final name is done if its metadata name the same shard: a prediction that was killed continues
with the others, on any number of ranks. Images that cannot be decoded are listed in the file's metadata, with key
and reason.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from ccscale import atomic
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.metrics import use
from ccscale.evaluate.parts import Part, by_part
from ccscale.evaluate.reject import TOO_FAR
from ccscale.evaluate.table import to_table, write_table

MARKER, FORMER_MARKER = "_predict.json", "predict.json"
ENDING = ".parquet"
REASONS, PART = b"ccscale.undecodable", b"ccscale.piece"  # (a word of earlier releases)


class PartsFolder:
    """A folder of parts' files.

    Parameters
    ----------
    folder
        Where they are.
    settings
        What the parts depend on, as JSON: they are continued only where it is the same.
    labels, features
        As in `table.to_table`.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], labels: bool = False, features: str | None = None
    ) -> None:
        self.folder = folder
        self._settings = settings
        self._labels, self._features = labels, features

    def begin(self, data: str | None = None) -> None:
        """Make the folder, or check that its parts can be continued; on one rank.

        Raises
        ------
        InputError
            If it holds something else, naming what differs.
        """
        marker, former = self.folder / MARKER, self.folder / FORMER_MARKER
        settings = self._settings | {"data": data}
        try:
            self.folder.mkdir(exist_ok=True)
            if not marker.exists() and former.exists():
                marker = former
            if not marker.exists():
                if any(entry.suffix != ".part" for entry in self.folder.iterdir()):
                    raise InputError(
                        f"{self.folder} is neither empty nor a folder of parts; choose another --out"
                    )
                atomic.write_bytes(marker, (json.dumps(settings, indent=1) + "\n").encode())
            before = json.loads(marker.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the folder {self.folder} cannot be written: {error.strerror}") from None
        except json.JSONDecodeError:
            raise InputError(f"{marker} is damaged; delete {self.folder}, or choose another --out") from None
        different = [
            f"{key} was {before.get(key)!r} and is now {value!r}"
            for key, value in settings.items()
            if before.get(key) != value
        ]
        if different:
            raise InputError(
                f"{self.folder} contains parts of another prediction: {'; '.join(different)}; delete it, "
                "or choose another --out"
            )
        if marker == former:
            os.replace(former, self.folder / MARKER)
        for path in self.folder.glob("*.part"):
            path.unlink()  # of a rank that was killed

    def done(self, parts: Collection[Part]) -> set[str]:
        """Return the names of those parts whose files are there."""
        names = set(os.listdir(self.folder))
        for part in parts:
            if (former := f"{part.former_name}{ENDING}") in names and part.former_name != part.name:
                os.replace(self.folder / former, self.path(part))
                names.add(f"{part.name}{ENDING}")
        return {part.name for part in parts if f"{part.name}{ENDING}" in names and self._is_of(part)}

    def _is_of(self, part: Part) -> bool:
        """Return whether the file of a part is one of the shard as it is now, as far as it tells."""
        try:
            metadata = pa.parquet.read_schema(self.path(part)).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return False
        key = metadata.get(PART)
        return key is None or part.is_of(json.loads(key))

    def path(self, part: Part) -> Path:
        """Return where the file of a part is, or will be."""
        return self.folder / f"{part.name}{ENDING}"

    def write(self, parts: Sequence[Part], batches: Iterable[Assigned]) -> None:
        """Write the files of parts from the batches of their samples, in the same order.

        `batches` may end early: then the last part is left out.

        Raises
        ------
        Fault
            If they cannot be written.
        """
        # Tables at once: what a batch holds beside them, images and outputs on the device, can go.
        found = ((to_table(one, self._labels, self._features), one.batch.reasons) for one in batches)
        for part, held in by_part(parts, found, lambda one: len(one[0])):
            metadata = {PART: json.dumps(part.key)}
            if reasons := [line for _, lines in held for line in lines]:
                metadata[REASONS] = json.dumps(reasons)
            table = pa.concat_tables([table for table, _ in held]).replace_schema_metadata(metadata)
            with atomic.writing(self.path(part)):
                write_table(self.path(part), [table])

    def tables(self, parts: Iterable[Part]) -> Iterator[pa.Table]:
        """Yield the tables of parts, one by one, without what is told of images that cannot be decoded."""
        for part in parts:
            table = pa.parquet.read_table(self.path(part), memory_map=True)
            if "origin" not in table.column_names:  # a part of an earlier release
                table = table.add_column(1, "origin", pa.nulls(len(table), pa.string()))
            yield table.replace_schema_metadata(None)

    def join(self, parts: Sequence[Part], path: Path, metadata: dict[bytes, bytes] | None = None) -> None:
        """Write parts as one table, with metadata where it is a parquet file; remove the folder.

        Raises
        ------
        Fault
            If it cannot be written.
        """
        with atomic.writing(path):
            write_table(path, (table.replace_schema_metadata(metadata) for table in self.tables(parts)))
        shutil.rmtree(self.folder)

    def summary(self, parts: Iterable[Part], k: int) -> dict[str, Any]:
        """Return the figures that need no labels, of parts, reading one at a time.

        Returns
        -------
        dict
            Of `metrics.use`; ``confidence`` (mean); ``undecodable`` (lines with key and reason); where images may
            be left without a cluster ``unassigned``, how many are, and ``too_far``, how many of these are that.
        """
        sizes, confidence, left = np.zeros(k, dtype=np.int64), 0.0, dict[str, int]()
        reasons: list[str] = []
        for part in parts:
            wanted = {"cluster", "confidence", "reason"}.intersection(
                pa.parquet.read_schema(self.path(part)).names
            )
            table = pa.parquet.read_table(self.path(part), columns=list(wanted))
            reasons += json.loads((table.schema.metadata or {}).get(REASONS, "[]"))
            if "reason" in wanted:
                why = table["reason"].drop_null()
                left["unassigned"] = left.get("unassigned", 0) + len(why)
                left["too_far"] = left.get("too_far", 0) + why.to_pylist().count(TOO_FAR)
                table = table.filter(pc.is_null(table["reason"]))
            sizes += np.bincount(table["cluster"].drop_null().to_numpy(), minlength=k)
            confidence += float(np.sum(table["confidence"].drop_null().to_numpy(), dtype=np.float64))
        return {
            **use(sizes),
            "confidence": confidence / max(int(sizes.sum()), 1),
            "undecodable": reasons,
            **left,
        }
