"""The text of ``dataset.json``, checked.

The file is an index as webdataset's `wids` reads it, with a section of its own:

    {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": …,
     "shardlist": [{"url", "nsamples", "filesize", "sha256", "split"}, …],
     "ccscale": {"version": 1, "splits": {split: {"samples", "shards", "labelled"}},
                 "classes": […], "class_ids": […], "made_by": {…}}}
"""

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ccscale.data import location
from ccscale.errors import InputError

KIND = "wids-shard-index-v1"
VERSION = 1

Count = Annotated[int, Field(ge=0)]


class Lenient(BaseModel):
    """Types are checked strictly; keys of others are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class ShardEntry(Lenient):
    url: str = Field(strict=True)
    nsamples: Count = Field(strict=True)
    filesize: Count = Field(strict=True)
    sha256: str = Field(strict=True, pattern="^[0-9a-f]{64}$")
    split: str = Field(strict=True, min_length=1)


class SplitEntry(Lenient):
    samples: Count = Field(strict=True)
    shards: Count = Field(strict=True)
    labelled: Count = Field(strict=True)


class Section(Lenient):
    splits: dict[str, SplitEntry]
    classes: tuple[str, ...]
    class_ids: tuple[str, ...]
    made_by: dict[str, Any]


class ManifestFile(Lenient):
    name: str
    shardlist: tuple[ShardEntry, ...]
    ccscale: Section


def parse(data: bytes, place: str, remedy: str) -> ManifestFile:
    """Check the manifest's text against its models and against itself."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise InputError(f"{place} is not valid JSON ({error}); {remedy}") from None
    if not isinstance(content, dict) or content.get("wids_version") != 1 or "shardlist" not in content:
        raise InputError(f"{place} is no shard index of version 1 ('wids_version', 'shardlist'); {remedy}")
    section = content.get("ccscale")
    if not isinstance(section, dict) or "version" not in section:
        raise InputError(f"{place} has no section 'ccscale' with a 'version': others made it; {remedy}")
    if section["version"] != VERSION:
        raise InputError(
            f"{place} has version {section['version']!r} and this ccscale reads version {VERSION}: upgrade ccscale"
        )
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
        if entry.url in seen:
            return f"the shard {entry.url} is listed twice"
        seen.add(entry.url)
        if _escapes(entry.url):
            return (
                f"the shard's url {entry.url!r} leads out of the folder (or runs a command), which is refused"
            )
        samples, shards = counts.get(entry.split, (0, 0))
        counts[entry.split] = [samples + entry.nsamples, shards + 1]
    section = file.ccscale
    if {split: [entry.samples, entry.shards] for split, entry in section.splits.items()} != counts:
        return "the counts in 'ccscale.splits' are not those of the shards"
    for split, count in section.splits.items():
        if count.labelled > count.samples:
            return f"the split {split} has more labelled samples than samples"
    if len(section.classes) != len(section.class_ids):
        return "'classes' and 'class_ids' have different lengths"
    return None


def _escapes(url: str) -> bool:
    """Tell whether a shard's url is anything but a path below the root or a plain remote URL."""
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url):
        forbidden = {*location.LOCAL_PROTOCOLS, "pipe://"}
        return match[0].lower() in forbidden or "::" in url or ".." in url.split("/")
    # Whatever else has a colon in front of it is a scheme: pipe:, file:, or a chain of fsspec's.
    first, *_ = url.split("/")
    return not url or url.startswith("/") or ":" in first or "\\" in url or ".." in url.split("/")
