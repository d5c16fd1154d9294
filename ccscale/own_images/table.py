"""The table of a folder's images: ``clusters.csv``, one row each, in the order of their paths.

path               as text; a byte that is not UTF-8 stands as %xE9
cluster            empty for an image that is in the shards and cannot be decoded, as all that follow
confidence         the soft assignment to the cluster
second             the next likely cluster
second_confidence
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.evaluate import TABLE
from ccscale.evaluate.table import write_table

COLUMNS = ("cluster", "confidence", "second", "second_confidence")


def write_paths(out: Path, run: Path, manifest: Manifest, folder: Path) -> None:
    """Write the clusters of images that were evaluated, by their paths."""
    found = pa.parquet.read_table(run / TABLE, columns=["key", *COLUMNS])
    indexes = [read_index(manifest, shard) for shard in manifest.shards]
    paths = pa.table(
        {
            "key": pa.array((key for index in indexes for key in index.keys), pa.string()),
            "path": pa.array(
                (f"{folder}/{origin}" for index in indexes for origin in index.origins or ()), pa.string()
            ),
        }
    )
    joined = paths.join(found, "key", join_type="inner").sort_by("path")
    write_table(out, [joined.select(["path", *COLUMNS])])
