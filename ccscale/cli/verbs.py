"""The table of verbs: what ``ccscale --help`` lists, in its order."""

import argparse
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast


class Code(Protocol):
    """A verb's module. `run` imports what takes seconds (torch, DeepSpeed): help is at once."""

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
    is_group: bool = False
    goes_on: bool = False
    """Whether the same command goes on after Ctrl-C (`train` hears that itself, and saves)."""
    more: str = ""
    """What its own help says behind that line."""

    @property
    def code(self) -> Code:
        """Its module, named as it is (``cli/shards/make.py``, ``cli/embed_info.py``), imported when asked for."""
        group, _, name = self.name.rpartition(" ")
        module = f"{group}.{name}" if group in GROUPS else self.name.replace(" ", "_")
        return cast(Code, import_module(f"ccscale.cli.{module.replace('-', '_')}"))


VERBS = (
    Verb(
        "demo",
        "handwritten digits, from files to clusters, in minutes",
        goes_on=True,
        more="Run again, it goes on.",
    ),
    Verb(
        "cluster",
        "a folder of images, from files to clusters, by a pretrained network",
        goes_on=True,
    ),
    Verb("shards", "make, index, verify and describe shards", is_group=True),
    Verb("shards make", "write images as shards", goes_on=True),
    Verb("shards index", "make a manifest for tars that others made"),
    Verb("shards verify", "check every byte of shards"),
    Verb("shards info", "counts, classes and sizes of shards"),
    Verb(
        "duplicates",
        "find images that are nearly the same, by the features of a store",
        goes_on=True,
        more="Encoded again, resized, cropped: tables of pairs and groups, a picture, and a list of what stays.",
    ),
    Verb(
        "how-many",
        "advise on the number of clusters, by the features of a store",
        more="No label is looked at. Of a run: `ccscale evaluate RUN --how-many`.",
    ),
    Verb("kmeans", "cluster the features of a store by k-means"),
    Verb(
        "turtle",
        "cluster images by the features of one or several stores",
        goes_on=True,
        more="In one process. With --out the same command again goes on where it stopped.",
    ),
    Verb(
        "train",
        "train a run, or go on with it",
        more="The same command again goes on where the run stopped. Many processes: torchrun --nproc-per-node G -m "
        "ccscale train …",
    ),
    Verb(
        "embed",
        "write the features of every image into a store, once for all that follows",
        goes_on=True,
        more="The same command again goes on where it stopped, and adds shards that are new. Many processes: as "
        "with train.",
    ),
    Verb("embed info", "counts, norms and nearest neighbours of a feature store"),
    Verb("embed verify", "check every byte of a feature store, and that it belongs to its shards"),
    Verb("launch", "train runs as jobs of Slurm, or on this machine"),
    Verb("evaluate", "measure the clusters of a run"),
    Verb(
        "predict",
        "write the cluster of every image to a table",
        goes_on=True,
        more="The same command again goes on where it stopped.",
    ),
    Verb(
        "update",
        "take new images into living clusters: old ids stay what they are",
        goes_on=True,
        more="`ccscale lineage init RUN` comes before it. The same command again goes on where it stopped. Many "
        "processes: as with train.",
    ),
    Verb(
        "lineage",
        "clusters that live: found them, see what became of them, decide, take back",
        is_group=True,
    ),
    Verb(
        "lineage init",
        "found living clusters of a run: version 1",
        goes_on=True,
        more="Without labels. Many processes: as with train.",
    ),
    Verb("lineage accept", "take proposals in, as a new version", goes_on=True),
    Verb("lineage refuse", "decline proposals: they are not made again", goes_on=True),
    Verb("lineage log", "what became of the clusters, version by version"),
    Verb("lineage show", "the clusters of a version, and what it proposes"),
    Verb("lineage diff", "what lies between two versions"),
    Verb("lineage table", "write the id of every image at a version to a table"),
    Verb("lineage rollback", "make an older version the current one", goes_on=True),
    Verb(
        "report",
        "write a run's clusters, curves and map as one HTML file",
        more="The run is evaluated first where that was not done since its newest checkpoint.",
    ),
    Verb(
        "name",
        "call clusters by names, join them in name, mark junk",
        more="`predict` and `report` use the names; no image changes its cluster.",
    ),
    Verb(
        "sort",
        "put images into a folder for each cluster",
        goes_on=True,
        more="As links, copies, or a table alone; no image is moved or changed.",
    ),
    Verb(
        "serve",
        "answer over HTTP: an image in, its cluster out",
        more="Until Ctrl-C or SIGTERM: then what is under way is answered. New checkpoints, evaluations "
        "and versions of living clusters are taken up without a pause.",
    ),
    Verb(
        "export",
        "hand a run's network on: as safetensors, ONNX, a program of torch.export, or timm's backbone",
        more="With a model card. ccscale.load and predict read safetensors.",
    ),
    Verb(
        "push",
        "put an exported network on the Hugging Face Hub",
        more="With a token: `hf auth login`, or HF_TOKEN. ccscale.load('hf://OWNER/NAME') reads it.",
    ),
    Verb(
        "plan",
        "what each rank of a run will hold, send and read, and what does not fit",
        more="Nothing is kept, or written but for --picture. "
        "Exit code 1: it does not fit the memory; 2: it cannot run there.",
    ),
    Verb(
        "plan embed",
        "how long embedding will take, and what memory and disk",
        more="Measured on the first images. Nothing is written.",
    ),
    Verb(
        "plan store",
        "what k-means and the search for neighbours will take of a feature store",
        more="It is measured on parts of the work, which takes seconds, and for neighbours among very many images "
        "a minute. Nothing is written.",
    ),
    Verb(
        "doctor",
        "tell what of this machine works, what does not, and what to do",
        more="It computes and writes for half a minute, and leaves nothing behind. Exit code 1: training will not "
        "go here.",
    ),
    Verb("config", "list the config's keys, or show a config with all its defaults"),
)
GROUPS = {verb.name for verb in VERBS if verb.is_group}
