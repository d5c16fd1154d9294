"""The listing of a feature store, ``features.json``, validated when it is read.

::

    {"format": "ccscale-features", "version": 1, "ccscale": "0.1.0",
     "settings": {"backbone": "vit_base…", "weights": SHA-256 of its tensors, "model": {…}, "size": 224,
                  "dtype": "float16", "views": 2, "seed": 0, "view_settings": {…}, …},
     "width": 768,
     "block": 1024,                        rows in a record batch of the files
     "data": {"root": "data/photos", "name": …, "splits": ["train"], "digest": of the manifest for these splits,
              "classes": […], "class_ids": […]},
     "files": [{"name": "train-000000.arrow", "rows", "bytes", "sha256", "labelled", "bad",
                "shard": {"url", "nsamples", "filesize", "sha256", "split"}}, …],
     "complete": true,
     "neighbours": null}

A file of features is valid once it is listed. There is no timestamp: the same images give the same bytes.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from ccscale import atomic
from ccscale.config.section import Count, Positive
from ccscale.data.shards.manifest_file import Lenient, Shard
from ccscale.errors import InputError, check_version

LISTING = "features.json"
ROWS = 1024  # rows in a record batch of a file, where nobody asks for others
FORMAT, VERSION = "ccscale-features", 1

Dtype = Literal["float16", "bfloat16", "float32"]
Name = Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$")]  # in the store's own folder


class Listed(Lenient):
    """Part of the listing, which nothing changes afterwards."""

    model_config = ConfigDict(frozen=True)


class Settings(Listed):
    """Everything that the features depend on besides the images.

    Attributes
    ----------
    backbone
        timm's name.
    weights
        SHA-256 of its tensors.
    origin
        Where the weights come from, for people.
    model
        What else the backbone depends on: stem, normalize and others of the config's section ``model``.
    size
        Side of the images in pixels.
    scaled_decode
        See `config.Views`.
    dtype
        Of the features as they are kept.
    views
        Random views of each image, beside the image as it is.
    seed
        Of the views.
    view_settings
        The config's section ``views``; null without views.
    """

    backbone: str
    weights: str
    origin: str = ""
    model: dict[str, Any] = Field(default_factory=dict)
    size: Positive
    scaled_decode: bool = True
    dtype: Dtype = "float16"
    views: Count = 0
    seed: Count = 0
    view_settings: dict[str, Any] | None = None


class FeatureFile(Listed):
    """A file of features, of one shard.

    Attributes
    ----------
    name
        In the store's folder.
    rows, bytes, sha256
        Its size and hash.
    labelled, bad
        Rows with a label; rows whose features are zeros, since their image cannot be decoded or gives no finite
        features.
    shard
        The shard that its rows are of, as the manifest had it.
    """

    name: Name
    rows: Count
    bytes: Count
    sha256: str
    labelled: Count = 0
    bad: Count = 0
    shard: Shard


class ListedDataSet(Listed):
    """The data set that the features are of.

    Attributes
    ----------
    root
        Its folder or URL, as it was given.
    name, classes, class_ids
        As the manifest has them.
    splits
        Those that the store holds.
    digest
        `Manifest.digest` of these.
    """

    root: str
    name: str
    splits: tuple[str, ...]
    digest: str
    classes: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()


class Listing(Listed):
    """All of ``features.json``; see the module."""

    settings: Settings
    width: Positive
    block: Positive = ROWS
    data: ListedDataSet
    files: tuple[FeatureFile, ...] = ()
    complete: bool = False
    neighbours: dict[str, Any] | None = None

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    def changed(self, **fields: Any) -> "Listing":
        """Return it with some fields replaced."""
        return self.model_copy(update=fields)

    def save(self, folder: Path) -> None:
        """Write it atomically."""
        head = {"format": FORMAT, "version": VERSION, "ccscale": version("ccscale")}
        text = json.dumps(head | self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        atomic.write_bytes(folder / LISTING, f"{text}\n".encode())


def read_listing(folder: Path) -> Listing:
    """Read a store's listing.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    place = folder / LISTING
    try:
        content = json.loads(place.read_bytes())
        if content["format"] != FORMAT:
            raise KeyError("format")
    except FileNotFoundError:
        raise InputError(
            f"{folder} is not a feature store: it has no {LISTING}; make one with `ccscale embed SHARDS "
            f"{folder}`"
        ) from None
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{place} is not the listing of a feature store; {REMAKE}") from None
    check_version(place, content.get("version"), VERSION)
    try:
        return Listing.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{place}: '{where}' is wrong: {first['msg']}; {REMAKE}") from None


def list_neighbours(folder: Path, section: dict[str, Any] | None) -> None:
    """Write what is to be listed of the neighbours of a store's rows; None: there are none. On one rank."""
    read_listing(folder).changed(neighbours=section).save(folder)


REMAKE = "delete the store, and make it anew with `ccscale embed`"
