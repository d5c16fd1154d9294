"""The text of ``dataset.json``, checked.

The file is an index as webdataset's `wids` reads it, with a section of its own:

    {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": …,
     "shardlist": [{"url", "nsamples", "filesize", "sha256", "split"}, …],
     "ccscale": {"version": 1, "splits": {split: {"samples", "shards", "labelled"}},
                 "classes": […], "class_ids": […], "made_by": {…}}}

Where images are kept as they are stored, channel by channel, its version is 2, which tells earlier releases that
they cannot read them, and it has a section "pixels" (`PixelFacts`).
"""

import re
from dataclasses import dataclass
from tarfile import BLOCKSIZE
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ccscale.config import MOST_CHANNELS, MOST_CLASSES
from ccscale.config.pixels import PixelType
from ccscale.data.remote import location
from ccscale.data.remote.fetch import RemoteFile
from ccscale.data.shards.keys import is_utf_8
from ccscale.errors import InputError, check_version

KIND = "wids-shard-index-v1"
VERSION = 2  # written where there are pixels of channels; else 1

MAX_COUNT = 2**48  # of samples, and of bytes in a shard: sums over a data set stay below 2**63

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
Text = Annotated[str, Field(strict=True)]


class Lenient(BaseModel):
    """Types are checked strictly; keys of others are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file of a data set.

    Attributes
    ----------
    url
        Relative to the manifest's folder, or an absolute URL.
    nsamples, filesize
        Number of samples; size in bytes.
    sha256
        Of the whole file, in hexadecimal.
    split
        The split that its samples belong to.
    """

    # The annotations are checked when a file is read: a hundred thousand shards are made once, not copied.
    url: Text
    nsamples: Count
    filesize: Count
    sha256: Annotated[Text, Field(pattern="^[0-9a-f]{64}$")]
    split: Annotated[Text, Field(min_length=1)]

    def behind(self, url: str) -> RemoteFile:
        """Return the file as it is to be read from a URL."""
        return RemoteFile(url, self.filesize, self.sha256)


class PixelFacts(Lenient):
    """Pixel statistics of all images of a data set, per channel.

    Attributes
    ----------
    channels, type
        How many there are; the type of the numbers.
    mean, std
        Of each channel, over all pixels of all images.
    percentiles
        Percentile (``"99.9"``) to its number of each channel: the least one that at least so many are not above.
    shown
        The channels that pictures show as red, green and blue.
    """

    model_config = ConfigDict(frozen=True)

    channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
    type: PixelType
    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[str, tuple[float, ...]]
    shown: tuple[Annotated[int, Field(ge=0, lt=MOST_CHANNELS)], ...] = (0, 1, 2)


class SplitEntry(Lenient):
    samples: Count
    shards: Count
    labelled: Count


class Section(Lenient):
    splits: dict[str, SplitEntry]
    classes: tuple[str, ...]
    class_ids: tuple[str, ...]
    made_by: dict[str, Any]
    pixels: PixelFacts | None = None


class ManifestFile(Lenient):
    name: str
    shardlist: tuple[Shard, ...]
    ccscale: Section


def parse(data: bytes, place: str, remedy: str) -> ManifestFile:
    """Check the manifest's text against its models and against itself."""
    try:
        content = from_json(data)
    except ValueError as error:
        raise InputError(f"{place} is not valid JSON ({error}); {remedy}") from None
    if not isinstance(content, dict) or content.get("wids_version") != 1 or "shardlist" not in content:
        raise InputError(f"{place} is not a shard index of version 1 ('wids_version', 'shardlist'); {remedy}")
    section = content.get("ccscale")
    if not isinstance(section, dict) or "version" not in section:
        raise InputError(
            f"{place} has no section 'ccscale' with a 'version', so another tool made it; {remedy}"
        )
    check_version(place, section["version"], VERSION if section.get("pixels") else 1)
    try:
        file = ManifestFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = "is missing" if first["type"] == "missing" else f"is wrong: {first['msg']}"
        raise InputError(f"{place}: '{where}' {what}; {remedy}") from None
    if complaint := _contradiction(file):
        raise InputError(f"{place}: {complaint}; {remedy}")
    return file


def _contradiction(file: ManifestFile) -> str | None:
    counts: dict[str, list[int]] = {}
    seen = set()
    for entry in file.shardlist:
        if not entry.split.isprintable():
            return f"the split {entry.split!r} has control characters in its name"
        if entry.url in seen:
            return f"the shard {entry.url} is listed twice"
        seen.add(entry.url)
        if complaint := url_complaint(entry.url):
            return complaint
        if entry.nsamples * BLOCKSIZE > entry.filesize:  # which is examined before room is made for samples
            return f"the shard {entry.url} is said to hold {entry.nsamples} samples in {entry.filesize} bytes"
        samples, shards = counts.get(entry.split, (0, 0))
        counts[entry.split] = [samples + entry.nsamples, shards + 1]
    section = file.ccscale
    if {split: [entry.samples, entry.shards] for split, entry in section.splits.items()} != counts:
        return "the counts in 'ccscale.splits' are not those of the shards"
    for split, count in section.splits.items():
        if count.labelled > count.samples:
            return f"the split {split} has more labelled samples than samples"
    if (pixels := section.pixels) is not None:
        of_each = (pixels.mean, pixels.std, *pixels.percentiles.values())
        if any(len(numbers) != pixels.channels for numbers in of_each):
            return f"'ccscale.pixels' has not {pixels.channels} numbers of each kind, one for each channel"
    if len(section.classes) > MOST_CLASSES:
        return f"there are {len(section.classes):,} classes, and {MOST_CLASSES:,} are read"
    if len(section.classes) != len(section.class_ids):
        return "'classes' and 'class_ids' have different lengths"
    return None


def url_complaint(url: str) -> str | None:
    """Return why a shard's URL is invalid in a manifest; None if it is valid."""
    if not url.isprintable():
        what = "control characters" if is_utf_8(url) else "bytes that are not UTF-8"
        return f"the shard {url!r} has {what} in its name"
    if url.lower().startswith("pipe:"):
        return (
            f"the shard's url {url!r} leads out of the folder: it is a command, and none is run from data: name "
            "the file by its own URL, which fsspec reads, as https://…, s3://… (`pip install 'ccscale[s3]'`), "
            "gs://… (gcsfs) or hf://… (huggingface_hub)"
        )
    if _escapes(url):
        return f"the shard's url {url!r} leads out of the folder, which is refused"
    return None


def _escapes(url: str) -> bool:
    """Return whether a shard's url is anything but a path below the root or a plain remote URL."""
    if "\\" in url or ".." in unquote(url).split("/"):
        return True
    if match := _SCHEME.match(url):
        return match[0].lower() in location.LOCAL_PROTOCOLS or "::" in url
    # Whatever else has a colon in front of it is a scheme: file:, or a chain of fsspec's.
    parts = url.split("/")
    return url.startswith("/") or ":" in parts[0] or parts[-1] in ("", ".")
