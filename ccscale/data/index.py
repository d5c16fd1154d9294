"""Where the images of a shard lie: the index beside each shard, ``train-000000.index.parquet``.

One row per sample, in the tar's order:

    key     string   the sample's name
    ext     string   of the image: jpg, png or webp
    offset  int64    of the image's first byte in the tar
    size    int64    of the image in bytes
    label   int32    null where it is not known
    origin  string   where the image came from, a path or a URL; null where it is not known

The origin is what a sample's ``json`` says in the tar: ``origin`` (as `ccscale shards make` writes it: a path
relative to the source, or a table's cell as it stands there), else ``url`` (as img2dataset writes it). Indexes of
earlier releases have no such column. `ShardIndex.origins` has it, and `SampleReader.origin` for one sample.

The index makes any sample a seek and a read. It can always be made again from the tar, and a shard that others
made is read without one.
"""

import io
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ccscale import atomic
from ccscale.data.manifest import Manifest, Shard
from ccscale.data.remote import location
from ccscale.data.remote.access import Access
from ccscale.data.remote.fetch import Fetcher
from ccscale.data.remote.retry import MISSING, RemoteError
from ccscale.errors import InputError

IMAGE_EXTENSIONS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}  # in the order of preference
UNKNOWN = -1
HEADER_BYTES = 2**20  # of a header with extended attributes, at most
JSON_BYTES = 2**16  # of a sample's json, at most: a larger one is not looked into
ORIGIN_FIELDS = ("origin", "url")  # of a sample's json, in the order of preference

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

# WebDataset's rule: the key goes up to the first dot of the last part of the path. Files whose names begin with a
# dot (as macOS adds to tars) are no part of a sample.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)


_NOT_UTF_8 = re.compile("[\ud800-\udfff]")  # how `tarfile` spells such bytes

# What `tarfile` lets out on damaged tars, besides its own errors.
_DAMAGE = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    RecursionError,
)


class ShardError(InputError):
    """A shard that is damaged or disagrees with what is known of it.

    Attributes
    ----------
    shard, what
        Its path or URL; what is wrong and where.
    """

    def __init__(self, shard: str, what: str) -> None:
        super().__init__(shard, what)
        self.shard, self.what = shard, what

    def __str__(self) -> str:
        return f"{self.shard}: {self.what}"


@dataclass(slots=True)
class ShardIndex:
    """The samples of a shard, in its order.

    Attributes
    ----------
    keys, exts
        Names; image formats (jpg, png, webp).
    offsets, sizes
        int64, shape (nsamples,): where the images' bytes lie in the tar.
    labels
        int64, shape (nsamples,): -1 where a label is not known.
    origins
        Where the images came from, None where that is not known; None in place of the list where the index was made
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
        """Tell whether two indexes describe the same samples at the same places, as far as both tell."""
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


def scan_tar(source: str | os.PathLike[str] | BinaryIO, name: str | None = None) -> ShardIndex:
    """Read a shard's headers and labels and return its index.

    Members are grouped by WebDataset's rule: neighbours that share the path up to the first dot of its last part
    are a sample. The image is the member jpg, jpeg, png or webp, preferred in this order; ``cls`` is the label,
    an ASCII number (-1: not known).

    Parameters
    ----------
    source
        A path, an fsspec URL, or a seekable binary file.
    name
        What to call the shard in errors; by default its path.

    Raises
    ------
    ShardError
        If the tar is damaged, cut off or compressed, a sample has no image, a label is no number, or two
        samples share a key.
    """
    if not isinstance(source, str | os.PathLike):
        return _scan(source, name or str(getattr(source, "name", "shard")))
    place = os.fspath(source)
    try:
        with location.open_binary(place) as file:
            return _scan(file, name or place)
    except FileNotFoundError:
        raise ShardError(name or place, "there is no such file") from None


def write_index(path: str, index: ShardIndex) -> None:
    """Write an index to a local parquet file, whole or not at all."""
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
    """Return a shard's index: from the file beside it, or where there is none by scanning the tar.

    Raises
    ------
    ShardError
        If the index cannot be read, or it disagrees with the manifest.
    Unreachable
        If a remote one could not be read for as long as it was tried.
    """
    return _from_table(read_table(manifest.locate(shard), shard, Fetcher(Access()), manifest.root))


def read_table(place: str, shard: Shard, fetcher: Fetcher, root: str) -> pa.Table:
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
    """
    remedy = f"; run `ccscale shards verify {root}`"
    beside = index_location(place)

    def scan() -> bytes:
        try:
            with fetcher.open(place, shard) as file:
                return to_parquet(_scan(file, place))
        except RemoteError as error:
            raise ShardError(place, str(error)) from None

    try:
        if location.is_url(place):
            data = fetcher.small_file(beside, shard, make=scan)
        else:
            try:
                with open(beside, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                data = to_parquet(scan_tar(place))
        # Looked at first: a small file may hold any number of rows.
        if (count := _rows(data)) != shard.nsamples:
            raise ShardError(place, f"it has {count} samples, and {shard.nsamples} in the manifest{remedy}")
        table = to_table(data)
    except FileNotFoundError:  # while it was scanned
        raise ShardError(place, MISSING) from None
    except (pa.ArrowException, KeyError, TypeError, UnicodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ShardError(
            place, f"its index {beside} cannot be read ({reason}): delete the index{remedy}"
        ) from None
    if any(table[name].null_count for name in ("key", "ext", "offset", "size")):
        raise ShardError(place, f"its index {beside} has gaps: delete the index{remedy}")
    if np.any(table["label"].fill_null(UNKNOWN).to_numpy() < UNKNOWN):
        raise ShardError(place, f"its index {beside} has labels below 0: delete the index{remedy}")
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


def _scan(file: BinaryIO, name: str) -> ShardIndex:
    rows: list[Row] = []
    seen: set[str] = set()
    for key, members in _samples(file, name):
        if key in seen:
            raise ShardError(name, f"two samples have the key {key!r}")
        seen.add(key)
        if _NOT_UTF_8.search(key):
            raise ShardError(name, f"the name {key!r} is not valid UTF-8: write the tar anew")
        found = next((ext for ext in IMAGE_EXTENSIONS if ext in members), None)
        if found is None:
            raise ShardError(
                name, f"the sample {key!r} has no image (jpg, png, webp) but {', '.join(members)}"
            )
        image = members[found]
        label = _label(file, members["cls"], key, name) if "cls" in members else UNKNOWN
        origin = _origin(file, members["json"]) if "json" in members else None
        rows.append((key, IMAGE_EXTENSIONS[found], image.offset_data, image.size, label, origin))
    return ShardIndex.from_rows(rows)


def _samples(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yield (key, members by extension) per sample."""
    key: str | None = None
    members: dict[str, tarfile.TarInfo] = {}
    for member in _members(file, name):
        match = _MEMBER.fullmatch(member.name)
        if match is None or not member.isreg():
            continue
        if match[1] != key:
            if key is not None:
                yield key, members
            key, members = match[1], {}
        extension = match[2].lower()
        if extension in members or member.issparse():
            what = "is sparse" if member.issparse() else "is there twice"
            raise ShardError(name, f"the member {member.name!r} {what}")
        members[extension] = member
    if key is not None:
        yield key, members


def _members(file: BinaryIO, name: str) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's members, and make sure that their end is the tar's end.

    `tarfile` takes a damaged header in the middle for the end of the tar and says nothing.
    """
    if file.read(2) == b"\x1f\x8b":
        raise ShardError(
            name, "it is compressed, so that nothing in it can be found by a seek: run gunzip on it"
        )
    file.seek(0)
    end = 0
    try:
        with tarfile.open(fileobj=cast(BinaryIO, _Headers(file)), mode="r:", encoding="utf-8") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= member.offset:  # tarfile would go round in circles
                    raise tarfile.ReadError(f"the member {member.name!r} ends before it begins")
                tar.members.clear()  # type: ignore[attr-defined]  # they are held by nobody
                yield member
            end = tar.offset
            file.seek(end)
            mark = file.read(tarfile.BLOCKSIZE)
            rest = iter(lambda: file.read(1 << 20), b"")
            empty = all(part.count(0) == len(part) for part in itertools.chain([mark], rest))
    except InputError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(name, f"the tar is damaged or cut off at byte {_block(file)}: {reason}") from None
    if len(mark) < tarfile.BLOCKSIZE:
        raise ShardError(name, f"the tar is cut off at byte {end}: it has no end mark")
    if not empty:
        raise ShardError(name, f"the tar is damaged at byte {end}: neither a header nor the end follows")


class _Headers:
    """A tar as `tarfile` sees it: a header that claims to be large is not read into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims to have {size} bytes")
        return self._file.read(size)


def _block(file: BinaryIO) -> int:
    """Return the offset of the block that reading stopped in."""
    return file.tell() // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE


def _label(file: BinaryIO, member: tarfile.TarInfo, key: str, name: str) -> int:
    file.seek(member.offset_data)
    text = file.read(min(member.size, 32)).strip()
    if not re.fullmatch(rb"-1|[0-9]{1,9}", text):
        raise ShardError(name, f"the label of the sample {key!r} is {text!r}: it must be a number, 0 or more")
    return int(text)


def _origin(file: BinaryIO, member: tarfile.TarInfo) -> str | None:
    """Return where an image came from by its sample's json, None where that does not say: it may be anybody's."""
    if member.size > JSON_BYTES:
        return None
    file.seek(member.offset_data)
    try:
        facts = json.loads(file.read(member.size))
        texts = [facts[name] for name in ORIGIN_FIELDS if isinstance(facts.get(name), str)]
        return next((text for text in texts if text.encode()), None)
    except (ValueError, AttributeError, RecursionError):  # no JSON, no object, no Unicode, or too deep
        return None
