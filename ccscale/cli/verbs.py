"""The table of verbs: what ``ccscale --help`` lists, in its order."""

import argparse
from dataclasses import dataclass
from typing import Protocol

from ccscale.cli import (
    cluster,
    config,
    demo,
    duplicates,
    embed,
    embed_info,
    embed_verify,
    evaluate,
    export,
    how_many,
    kmeans,
    launch,
    plan,
    plan_embed,
    plan_store,
    predict,
    report,
    train,
    turtle,
)
from ccscale.cli.shards import index, info, make, verify


class Code(Protocol):
    """A verb's module. What takes seconds to import (torch, DeepSpeed) is imported by `run`: --help is at once."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do what is asked and return the exit code; raises `InputError` or `Fault`."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line, or a group of verbs."""

    name: str
    """With that of its group in front: ``shards make``."""
    about: str
    """One line of help."""
    code: Code | None = None
    """None for a group."""
    goes_on: bool = False
    """Whether the same command goes on after Ctrl-C (`train` hears that itself, and saves)."""
    more: str = ""
    """What its own help says behind that line."""


VERBS = (
    Verb(
        "demo", "handwritten digits, from files to clusters, in minutes", demo, True, "Run again, it goes on."
    ),
    Verb(
        "cluster",
        "a folder of images, from files to clusters, by a pretrained network",
        cluster,
        goes_on=True,
    ),
    Verb("shards", "make, index, verify and describe shards"),
    Verb("shards make", "write images as shards", make, goes_on=True),
    Verb("shards index", "make a manifest for tars that others made", index),
    Verb("shards verify", "check every byte of shards", verify),
    Verb("shards info", "counts, classes and sizes of shards", info),
    Verb(
        "duplicates",
        "find images that are nearly the same, by the features of a store",
        duplicates,
        goes_on=True,
        more="Encoded again, resized, cropped: tables of pairs and groups, a picture, and a list of what stays.",
    ),
    Verb(
        "how-many",
        "advise on the number of clusters, by the features of a store",
        how_many,
        more="No label is looked at. Of a run: `ccscale evaluate RUN --how-many`.",
    ),
    Verb("kmeans", "cluster the features of a store by k-means", kmeans),
    Verb(
        "turtle",
        "cluster images by the features of one or several stores",
        turtle,
        goes_on=True,
        more="In one process. With --out the same command again goes on where it stopped.",
    ),
    Verb(
        "train",
        "train a run, or go on with it",
        train,
        more="The same command again goes on where the run stopped. Many processes: torchrun --nproc-per-node G -m "
        "ccscale train …",
    ),
    Verb(
        "embed",
        "write the features of every image into a store, once for all that follows",
        embed,
        goes_on=True,
        more="The same command again goes on where it stopped, and adds shards that are new. Many processes: as "
        "with train.",
    ),
    Verb("embed info", "counts, norms and nearest neighbours of a feature store", embed_info),
    Verb(
        "embed verify", "check every byte of a feature store, and that it belongs to its shards", embed_verify
    ),
    Verb("launch", "train runs as jobs of Slurm, or on this machine", launch),
    Verb("evaluate", "measure the clusters of a run", evaluate),
    Verb(
        "predict",
        "write the cluster of every image to a table",
        predict,
        goes_on=True,
        more="The same command again goes on where it stopped.",
    ),
    Verb(
        "report",
        "write a run's clusters, curves and map as one HTML file",
        report,
        more="The run is evaluated first where that was not done since its newest checkpoint.",
    ),
    Verb("export", "copy a run's network out, as safetensors", export, more="ccscale.load reads it."),
    Verb(
        "plan",
        "what each rank of a run will hold, send and read, and what does not fit",
        plan,
        more="Nothing is kept or written. Exit code 1: it does not fit the memory; 2: it cannot run there.",
    ),
    Verb(
        "plan embed",
        "how long embedding will take, and what memory and disk",
        plan_embed,
        more="Measured on the first images. Nothing is written.",
    ),
    Verb(
        "plan store",
        "what k-means and the search for neighbours will take of a feature store",
        plan_store,
        more="It is measured on parts of the work, which takes seconds, and for neighbours among very many images "
        "a minute. Nothing is written.",
    ),
    Verb("config", "list the config's keys, or show a config with all its defaults", config),
)
GROUPS = {verb.name for verb in VERBS if verb.code is None}
