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
    """What its own help adds to that line."""

    @property
    def code(self) -> Code:
        """Its module, named as it is (``cli/shards/make.py``, ``cli/embed_info.py``), imported when asked for."""
        group, _, name = self.name.rpartition(" ")
        module = f"{group}.{name}" if group in GROUPS else self.name.replace(" ", "_")
        return cast(Code, import_module(f"ccscale.cli.{module.replace('-', '_')}"))


VERBS = (
    Verb(
        "demo",
        "cluster handwritten digits, from files to a report, in minutes",
        goes_on=True,
        more="Run it again to continue where it stopped.",
    ),
    Verb(
        "cluster",
        "cluster a folder of images, from files to a report, with a pretrained network",
        goes_on=True,
    ),
    Verb("shards", "make, index, verify and describe shards", is_group=True),
    Verb("shards make", "convert images to shards", goes_on=True),
    Verb("shards index", "write a manifest for existing tars"),
    Verb("shards verify", "check every byte of the shards"),
    Verb("shards info", "show counts, classes and sizes of the shards"),
    Verb(
        "duplicates",
        "find near-duplicate images using a feature store",
        goes_on=True,
        more="Such as re-encoded, resized and cropped copies. Writes tables of pairs and groups, a picture, and "
        "a list of the images to keep.",
    ),
    Verb(
        "how-many",
        "estimate the number of clusters from a feature store",
        more="Labels are not used. For a run: `ccscale evaluate RUN --how-many`.",
    ),
    Verb("kmeans", "cluster the features of a store with k-means"),
    Verb(
        "turtle",
        "cluster images with TURTLE, from one or more feature stores",
        goes_on=True,
        more="Runs in one process. With --out, run the same command again to continue where it stopped.",
    ),
    Verb(
        "train",
        "train a run, or resume it",
        more="Run the same command again to resume. With several processes: torchrun --nproc-per-node G -m "
        "ccscale train …",
    ),
    Verb(
        "embed",
        "compute the features of every image once and keep them in a store",
        goes_on=True,
        more="Run the same command again to continue where it stopped, and to add new shards. For several "
        "processes see `ccscale train --help`.",
    ),
    Verb("embed info", "show counts, norms and nearest neighbours of a feature store"),
    Verb("embed verify", "check every byte of a feature store, and that it matches its shards"),
    Verb("launch", "train runs as Slurm jobs, or on this machine"),
    Verb("evaluate", "measure the clusters of a run"),
    Verb(
        "predict",
        "write the cluster of every image to a table",
        goes_on=True,
        more="Run the same command again to continue where it stopped.",
    ),
    Verb(
        "update",
        "assign new images to living clusters; existing ids keep their meaning",
        goes_on=True,
        more="Run `ccscale lineage init RUN` first. Run the same command again to continue where it stopped. For "
        "several processes see `ccscale train --help`.",
    ),
    Verb(
        "lineage",
        "living clusters: found them, see their history, decide on proposals, roll back",
        is_group=True,
    ),
    Verb(
        "lineage init",
        "found living clusters from a run: version 1",
        goes_on=True,
        more="Labels are not used. For several processes see `ccscale train --help`.",
    ),
    Verb("lineage accept", "accept proposals, as a new version", goes_on=True),
    Verb("lineage refuse", "refuse proposals, so that they are not made again", goes_on=True),
    Verb("lineage log", "show the history of the clusters, version by version"),
    Verb("lineage show", "show the clusters of a version and its open proposals"),
    Verb("lineage diff", "show the differences between two versions"),
    Verb("lineage table", "write the id of every image in a version to a table"),
    Verb("lineage rollback", "make an older version the current one", goes_on=True),
    Verb(
        "report",
        "write a run's clusters, curves and map as one HTML file",
        more="If the newest checkpoint has not been evaluated, that is done first.",
    ),
    Verb(
        "name",
        "name clusters, give several the same name, mark junk",
        more="`predict` and `report` use the names. No image changes its cluster.",
    ),
    Verb(
        "sort",
        "sort images into one folder per cluster",
        goes_on=True,
        more="As links, as copies, or only as a table. The images themselves are not moved or changed.",
    ),
    Verb(
        "serve",
        "serve cluster assignments over HTTP",
        more="Runs until Ctrl-C or SIGTERM, then answers the requests in flight. Loads new checkpoints, "
        "evaluations and versions of living clusters without a pause.",
    ),
    Verb(
        "export",
        "export a run's network: safetensors, ONNX, torch.export, or the backbone for timm",
        more="Includes a model card. ccscale.load and `predict` read the safetensors format.",
    ),
    Verb(
        "push",
        "upload an exported network to the Hugging Face Hub",
        more="Needs a token: `hf auth login`, or HF_TOKEN. ccscale.load('hf://OWNER/NAME') loads it.",
    ),
    Verb(
        "plan",
        "tell what each rank of a run will hold, send and read, and what does not fit",
        more="Writes nothing except --picture. "
        "Exit code 1: it does not fit in memory; 2: it cannot run there.",
    ),
    Verb(
        "plan embed",
        "estimate the time, memory and disk that embedding will take",
        more="Measures the first images. Writes nothing.",
    ),
    Verb(
        "plan store",
        "estimate what k-means and the neighbour search of a feature store will take",
        more="Measures parts of the work: seconds, or up to a minute for neighbours among very many images. Writes "
        "nothing.",
    ),
    Verb(
        "doctor",
        "check what works on this machine, what does not, and what to do about it",
        more="Takes half a minute and leaves nothing behind. Exit code 1: training will not work here.",
    ),
    Verb("config", "list the config keys, or show a config with all its defaults"),
)
GROUPS = {verb.name for verb in VERBS if verb.is_group}
