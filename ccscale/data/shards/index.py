"""The index of a shard, ``train-000000.index.parquet``: the offset of each image.

One row per sample, in the tar's order:

    key     string   the sample's name, `escaped` where it is not UTF-8
    ext     string   of the image: jpg, png or webp, in tars of others also gif, bmp, … (`EXTENSIONS`)
    offset  int64    of the image's first byte in the tar
    size    int64    of the image in bytes
    label   int32    null where it is not known
    origin  string   where the image came from, a path or a URL; null where it is not known

The origin is what a sample's ``json`` says in the tar: ``origin`` (as `ccscale shards make` writes it: a path
relative to the source, or a table's cell as it stands there), else ``url`` (as img2dataset writes it). Indexes of
earlier releases have no such column. `ShardIndex.origins` has it, and `SampleReader.origin` for one sample.

With the index, any sample is one seek and one read. It can always be rebuilt from the tar, and shards made by
other tools can be read without one.
"""

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ccscale import atomic
from ccscale.config import MOST_CLASSES
from ccscale.data.remote import location
from ccscale.data.remote.access import Access
from ccscale.data.remote.fetch import Fetcher
from ccscale.data.remote.retry import MISSING, RemoteError
from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.labels import UNKNOWN, LabelError, Labelling
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.data.shards.scan import Scan, scan

Row = tuple[str, str, int, int, int, str | None]  # key, ext, offset, size, label, origin

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("ext", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("label", pa.int32()),
        ("origin", pa.string()),
    ]
)


@dataclass(slots=True)
class ShardIndex:
    """The samples of a shard, in its order.

    Attributes
    ----------
    keys, exts
        Names; image formats (jpg, png, …).
    offsets, sizes
        int64, shape (nsamples,): where the images' bytes lie in the tar.
    labels
        int64, shape (nsamples,): -1 where a label is not known.
    origins
        Where the images came from, None where that is not known; None instead of the list where the index was made
        by a release that did not keep it.
    """

    keys: list[str]
    exts: list[str]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    origins: list[str | None] | None = None

    @classmethod
    def from_rows(cls, rows: list[Row]) -> "ShardIndex":
        """Build an index from (key, ext, offset, size, label, origin) per sample."""
        offsets, sizes, labels = np.array([row[2:5] for row in rows], np.int64).reshape(-1, 3).T.copy()
        keys, exts = [row[0] for row in rows], [row[1] for row in rows]
        return cls(keys, exts, offsets, sizes, labels, [row[5] for row in rows])

    def __len__(self) -> int:
        return len(self.keys)

    def same_as(self, other: "ShardIndex") -> bool:
        """Return whether two indexes describe the same samples at the same places, as far as both tell."""
        return (
            self.keys == other.keys
            and self.exts == other.exts
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.sizes, other.sizes)
            and np.array_equal(self.labels, other.labels)
            and (None in (self.origins, other.origins) or self.origins == other.origins)
        )


def index_location(shard: str) -> str:
    """Return the path or URL of a shard's index."""
    place, query = location.without_query(shard)
    return f"{place.removesuffix('.tar')}.index.parquet{query}"


PLAIN = Labelling()


def scan_tar(
    source: str | os.PathLike[str] | BinaryIO, name: str | None = None, labelling: Labelling = PLAIN
) -> ShardIndex:
    """Read a shard's headers and labels and return its index.

    Parameters
    ----------
    source
        A path, an fsspec URL, or a seekable binary file.
    name
        What to call the shard in errors; by default its path.
    labelling
        How labels are written; by default as numbers in ``cls``.

    Raises
    ------
    ShardError
        As `scan` does, and if a label is none of the data set's.
    """
    if not isinstance(source, str | os.PathLike):
        name = name or str(getattr(source, "name", "shard"))
        return indexed(scan(source, name, labelling.field), name, labelling)
    name = name or os.fspath(source)
    try:
        with location.open_binary(os.fspath(source)) as file:
            return indexed(scan(file, name, labelling.field), name, labelling)
    except FileNotFoundError:
        raise ShardError(name, "there is no such file") from None


def indexed(found: Scan, name: str, labelling: Labelling) -> ShardIndex:
    """Return the index of a tar's content; raises ShardError for an unknown label."""
    try:
        numbers = labelling.labels.numbers({sample.text for sample in found.samples})
    except LabelError as error:
        key = next(sample.key for sample in found.samples if sample.text == error.text)
        raise ShardError(name, f"of the sample {key!r}, {error}") from None
    return ShardIndex.from_rows(
        [
            (sample.key, sample.ext, sample.offset, sample.size, numbers[sample.text], sample.origin)
            for sample in found.samples
        ]
    )


def write_index(path: str, index: ShardIndex) -> None:
    """Write an index to a local parquet file atomically."""
    atomic.write_bytes(path, to_parquet(index))


def to_parquet(index: ShardIndex) -> bytes:
    """Return an index as the bytes of its file."""
    labels = pa.array(index.labels, pa.int32(), mask=index.labels == UNKNOWN)
    columns = [index.keys, index.exts, index.offsets, index.sizes, labels]
    if index.origins is not None:
        columns.append(index.origins)
    table = pa.table(columns, schema=pa.schema(list(SCHEMA)[: len(columns)]))
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def read_index(manifest: Manifest, shard: Shard) -> ShardIndex:
    """Return a shard's index, from its file or by scanning the tar.

    Raises
    ------
    ShardError
        If the index cannot be read, or it disagrees with the manifest.
    Unreachable
        If a remote one could not be read for as long as it was tried.
    """
    place, fetcher = manifest.locate(shard), Fetcher(Access())
    return _from_table(read_table(place, shard, fetcher, manifest.root, manifest.labelling))


def read_table(
    place: str, shard: Shard, fetcher: Fetcher, root: str, labelling: Labelling = PLAIN
) -> pa.Table:
    """Return a shard's index as a table of `SCHEMA`; see `read_index`.

    Parameters
    ----------
    place
        The shard's path or URL.
    shard
        Its entry in the manifest.
    fetcher
        Reads remote ones.
    root
        The data set's folder, for the remedy.
    labelling
        How labels are written in the tars, for one that has no index.
    """
    remedy = f"; run `ccscale shards verify {root}`"
    beside = index_location(place)

    def make() -> bytes:
        try:
            with fetcher.open(shard.behind(place)) as file:
                return to_parquet(scan_tar(file, place, labelling))
        except RemoteError as error:
            raise ShardError(place, str(error)) from None

    try:
        if location.is_url(place):
            data = fetcher.index(beside, shard.sha256, make)
        else:
            try:
                with open(beside, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                data = to_parquet(scan_tar(place, labelling=labelling))
        # Looked at first: a small file may hold any number of rows.
        if (count := _rows(data)) != shard.nsamples:
            raise ShardError(place, f"it has {count} samples, but {shard.nsamples} in the manifest{remedy}")
        table = to_table(data)
        if len(table) != count:
            raise pa.ArrowInvalid(f"it says that it has {count} rows, and has {len(table)}")
    except FileNotFoundError:  # while it was scanned
        raise ShardError(place, MISSING) from None
    except (pa.ArrowException, KeyError, TypeError, UnicodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ShardError(
            place, f"its index {beside} cannot be read ({reason}): delete the index{remedy}"
        ) from None
    if any(table[name].null_count for name in ("key", "ext", "offset", "size")):
        raise ShardError(place, f"its index {beside} has gaps: delete the index{remedy}")
    labels = table["label"].fill_null(UNKNOWN).to_numpy()
    if np.any(labels < UNKNOWN) or np.any(labels >= MOST_CLASSES):
        bounds = f"below 0 or above {MOST_CLASSES - 1:,}"
        raise ShardError(place, f"its index {beside} has labels {bounds}: delete the index{remedy}")
    starts, sizes = table["offset"].to_numpy(), table["size"].to_numpy()
    if np.any(starts < 0) or np.any(sizes < 0) or np.any(sizes > shard.filesize - starts):
        raise ShardError(place, f"its index points past its end{remedy}")
    return table


def from_parquet(data: bytes) -> ShardIndex:
    """Read an index file's bytes; raises what pyarrow raises for another file, KeyError for missing columns."""
    return _from_table(to_table(data))


def to_table(data: bytes) -> pa.Table:
    """Read an index file's bytes as a table of `SCHEMA`, perhaps without ``origin``; raises as `from_parquet`."""
    table = pq.read_table(io.BytesIO(data))
    fields = [field for field in SCHEMA if field.name != "origin" or field.name in table.column_names]
    table = table.select([field.name for field in fields]).cast(pa.schema(fields))
    table.validate(full=True)  # that text is UTF-8, which reading it does not check
    return table


def _rows(data: bytes) -> int:
    """Return how many rows an index file says that it has."""
    footer = pq.read_metadata(io.BytesIO(data))
    groups = sum(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    return max(footer.num_rows, groups)


def _from_table(table: pa.Table) -> ShardIndex:
    return ShardIndex(
        table["key"].to_pylist(),
        table["ext"].to_pylist(),
        table["offset"].to_numpy(),
        table["size"].to_numpy(),
        table["label"].fill_null(UNKNOWN).to_numpy().astype(np.int64),
        table["origin"].to_pylist() if "origin" in table.column_names else None,
    )
