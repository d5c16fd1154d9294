"""The table of verbs: what ``ccscale --help`` lists, in its order."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from ccscale.cli import config, demo, evaluate, export, launch, plan, predict, report, train
from ccscale.cli.shards import index, info, make, verify


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    name: str
    """With that of its group in front: ``shards make``."""
    about: str
    """One line of help."""
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    """None for a group of verbs."""
    run: Callable[[argparse.Namespace], int] | None = None
    """Returns the exit code; raises `InputError` or `Fault`. It imports what takes seconds (torch, DeepSpeed)."""
    goes_on: bool = False
    """Whether the same command goes on after Ctrl-C (`train` hears that itself, and saves)."""
    more: str = ""
    """What its own help says behind that line."""

    def fill(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the verb's description and arguments."""
        parser.description = f"{self.about[0].upper()}{self.about[1:]}. {self.more}"
        if self.add_arguments is not None:
            self.add_arguments(parser)
            parser.set_defaults(call=self.run, goes_on=self.goes_on)


VERBS = (
    Verb(
        "demo",
        "handwritten digits, from files to clusters, in minutes",
        demo.add_arguments,
        demo.run,
        goes_on=True,
        more="Run again, it goes on.",
    ),
    Verb("shards", "make, index, verify and describe shards"),
    Verb("shards make", "write images as shards", make.add_arguments, make.run, goes_on=True),
    Verb("shards index", "make a manifest for tars that others made", index.add_arguments, index.run),
    Verb("shards verify", "check every byte of shards", verify.add_arguments, verify.run),
    Verb("shards info", "counts, classes and sizes of shards", info.add_arguments, info.run),
    Verb(
        "train",
        "train a run, or go on with it",
        train.add_arguments,
        train.run,
        more="The same command again goes on where the run stopped. Many processes: torchrun --nproc-per-node G -m "
        "ccscale train …",
    ),
    Verb("launch", "train runs as jobs of Slurm, or on this machine", launch.add_arguments, launch.run),
    Verb("evaluate", "measure the clusters of a run", evaluate.add_arguments, evaluate.run),
    Verb(
        "predict",
        "write the cluster of every image to a table",
        predict.add_arguments,
        predict.run,
        goes_on=True,
        more="The same command again goes on where it stopped.",
    ),
    Verb(
        "report",
        "write a run's clusters, curves and map as one HTML file",
        report.add_arguments,
        report.run,
        more="The run is evaluated first where that was not done since its newest checkpoint.",
    ),
    Verb(
        "export",
        "copy a run's network out, as safetensors",
        export.add_arguments,
        export.run,
        more="ccscale.load reads it.",
    ),
    Verb(
        "plan",
        "what each rank of a run will hold, send and read, and what does not fit",
        plan.add_arguments,
        plan.run,
        more="Nothing is trained or written. Exit code 1: it does not fit the memory; 2: it cannot run there.",
    ),
    Verb(
        "config",
        "list the config's keys, or show a config with all its defaults",
        config.add_arguments,
        config.run,
    ),
)
