"""The origins of a report's images, as absolute paths if the folder is known."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ccscale.data.reader import SampleReader
from ccscale.evaluate.table import Assignments
from ccscale.report.members import LISTED


def with_origins(
    table: Assignments, reader: SampleReader | None, folder: str | Path | None = None
) -> Assignments:
    """Return a table with the origins of its images, as far as it, or the index of their shards, tells.

    Parameters
    ----------
    table
        Of a run on a feature store it has none.
    reader
        Of its images; sample i is row i. None: there are no shards.
    folder
        That the images came from.
    """
    origins = table.origins
    if origins is None and reader is not None and not reader.is_remote and len(table.keys) <= LISTED:
        telling = reader.with_origins()
        found = [telling.origin(sample) for sample in range(len(table.keys))]
        origins = pa.array(found, pa.string()) if any(found) else None
    if origins is not None and folder is not None:
        origins = pc.binary_join_element_wise(os.path.abspath(folder), origins, "/")
    return replace(table, origins=origins)
