"""The arguments that verbs share, and how their values are read."""

import argparse
import math
import os
import re
from pathlib import Path

from ccscale.evaluate.reject import Reject

_UNITS = {"": 1, **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)} | {"B": 1}


def add_config(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Add the config, and the settings that go over its own."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?" if optional else None,
        type=path,
        help="a YAML file (`ccscale config` lists its keys), or a recipe (`ccscale config --recipes`)",
    )
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the settings that go over a config's own."""
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],  # else argparse calls them required
        help="config keys to set, such as train.lr=0.001 (`ccscale config` lists them)",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the run that is examined."""
    parser.add_argument("run", metavar="RUN", type=path, help="the run's folder")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the run, or the exported network, that images are shown to."""
    parser.add_argument(
        "run",
        metavar="RUN",
        type=path,
        help="the folder of a run or of an exported network (`ccscale export`), or hf://OWNER/NAME on the "
        "Hugging Face Hub",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the feature store that is read."""
    parser.add_argument("store", metavar="STORE", type=path, help="a feature store (`ccscale embed`)")


def add_moved(parser: argparse.ArgumentParser) -> None:
    """Add where the images of a feature store are now."""
    parser.add_argument(
        "--shards", metavar="DIR", type=path, help="where the images are now, if they have moved"
    )


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Add ``--follow``, and when it ends."""
    parser.add_argument(
        "--follow", action="store_true", help="keep going as new shards appear, until Ctrl-C or SIGTERM"
    )
    parser.add_argument(
        "--idle",
        type=amount,
        metavar="SECONDS",
        help="with --follow: stop after this long without a new shard",
    )


def at_hand(network: str) -> str:
    """Return the folder of what `add_network` takes; what is on the Hub is downloaded."""
    if not network.startswith("hf://"):
        return network
    from ccscale.model.hub import fetch

    return str(fetch(network))


def add_images(parser: argparse.ArgumentParser, beside: str = "") -> None:
    """Add the images to assign: shards, or files; `beside` is what the help adds about files."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--shards", metavar="DIR", type=path, help="shards of the images, with or without labels"
    )
    which.add_argument(
        "--images",
        metavar="PATH",
        type=path,
        nargs="+",
        default=[],
        help=f"image files: folders, files, or lists (FILE.txt with one path per line{beside}",
    )


def add_reject(parser: argparse.ArgumentParser, more: str) -> None:
    """Add which images are left without a cluster; `more` says what happens to them."""
    parser.add_argument(
        "--reject",
        metavar="WHICH",
        type=_reject,
        help=f"leave doubtful images without a cluster{more}: .95 keeps that share of images like the run's own; "
        "confidence=.6 keeps images of at least that calibrated confidence",
    )


def _reject(text: str) -> Reject:
    try:
        return Reject.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a checkpoint."""
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="WHICH",
        help="last (default), a step, best (by the information in the assignments, without labels) or best-nmi",
    )


def add_clusters(parser: argparse.ArgumentParser) -> None:
    """Add the choice of K, where a network has heads of several."""
    parser.add_argument(
        "--clusters",
        type=count,
        metavar="K",
        help="which K, if several were trained at once (default: the first)",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the choice of splits."""
    parser.add_argument("--split", action="append", metavar="NAME", help="a split (may be repeated)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add what a network's work on images is done with, and ``--json``."""
    add_device_alone(parser)
    parser.add_argument("--workers", type=number, metavar="N", help="loader processes of each rank")
    add_json(parser)


def add_device_alone(parser: argparse.ArgumentParser) -> None:
    """Add where a network is, of what needs no loader processes."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add how many processes work on shards, and ``--json``."""
    parser.add_argument("--workers", type=count, metavar="N", help="processes (default: one per core)")
    add_json(parser)


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add the refusal of tars that hold more than samples."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse tars that hold anything other than samples, such as a README.md",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def path(text: str) -> str:
    """Read a path, or a URL; ``~`` in front is the home folder. For argparse's `type`, as all below."""
    return os.path.expanduser(text)


def local_path(text: str) -> Path:
    """Read the path of what is written here."""
    return Path(path(text))


def number(text: str) -> int:
    """Read a number of things, which may be 0."""
    return _at_least(0, text)


def count(text: str) -> int:
    """Read a number of things, at least 1."""
    return _at_least(1, text)


def several(text: str) -> int:
    """Read a number of things, at least 2."""
    return _at_least(2, text)


def _at_least(least: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers from 0 with commas between them."""
    return tuple(map(number, text.split(",")))


def amount(text: str) -> float:
    """Read a number from 0, with a fraction or without."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return found


def byte_size(text: str) -> int:
    """Read a size as ``"256MB"`` (millions), ``"256MiB"`` (times 2^20) or ``"1000000"``."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: write 256MB, 1.5GB, 512MiB or a number of bytes"
        )
    return round(float(match[1]) * _UNITS[match[2].upper()])
