"""The end of a conversion: writes the lists of omitted images, then the manifest."""

import contextlib
import csv
import importlib.metadata
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ccscale import atomic
from ccscale.data.conversion.duplicates import DUPLICATES, Duplicate
from ccscale.data.conversion.layout import ShardLayout
from ccscale.data.conversion.record import Record
from ccscale.data.conversion.rejected import REJECTED, Rejected
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import PixelFacts
from ccscale.data.sources.items import Source
from ccscale.errors import Fault, InputError
from ccscale.spreadsheet import cell


class NoneReadable(InputError):
    """No image of a source can be read."""


def finish(
    source: Source,
    out: str,
    layouts: list[ShardLayout],
    records: list[Record],
    duplicates: list[Duplicate] | None,
    options: dict[str, Any],
    request: str,
    measure: Callable[[Manifest], PixelFacts] | None = None,
) -> Manifest:
    """Write the lists of what was left out, and then the manifest, with what `measure` returns of channels."""
    rejected = sorted(line for record in records for line in record.rejected)
    temporary = sum(bool(line.temporary) for line in rejected)
    shards = tuple(record.shard for record in records if record.shard is not None)
    if not shards:
        first = rejected[0]
        what = (
            f"none of the {len(rejected):,} images of {source.name} can be read (the first, {first.origin}: "
            f"{first.reason})"
        )
        if temporary:
            raise Fault(
                f"{what}, {temporary:,} of them perhaps temporarily: run the same command again later"
            )
        raise NoneReadable(f"{what}; check the source")
    write_rejected(out, rejected)
    _write_table(os.path.join(out, DUPLICATES), Duplicate, duplicates or [])
    labelled = {shard.split: 0 for shard in shards}
    for layout, record in zip(layouts, records, strict=True):
        if record.shard is not None:
            labelled[layout.split] += record.labelled
    made_by: dict[str, Any] = {
        "kind": source.kind,
        "options": options,
        "ccscale": importlib.metadata.version("ccscale"),
        "rejected": len(rejected),
    }
    if temporary:
        made_by["temporary"] = temporary
    if duplicates is not None:
        conflicts = sum(bool(line.conflict) for line in duplicates)
        made_by |= {"duplicates": len(duplicates), "conflicting_labels": conflicts}
    made_by["request"] = request
    made = Manifest(out, source.name, shards, source.classes, source.class_ids, labelled, made_by)
    if measure is not None:
        made = replace(made, pixels=measure(made))
    made.save()
    return made


def write_rejected(out: str, rejected: Sequence[Rejected]) -> None:
    """Write the list of images that cannot be read."""
    _write_table(os.path.join(out, REJECTED), Rejected, rejected)


def _write_table(path: str, row: type[NamedTuple], rows: Sequence[tuple[str, ...]]) -> None:
    """Write a CSV file; none where there are no rows: one of an earlier call is removed."""
    if not rows:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(row._fields)
    table.writerows([cell(text) for text in line] for line in rows)
    atomic.write_bytes(path, text.getvalue().encode())
