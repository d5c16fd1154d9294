#!/usr/bin/env python
"""Kill a command at random moments, start it again, and compare what comes of it with an unbroken run.

    python tools/kill_often.py conversion KIND [SOURCE] [--kills 20] [--seed 0] [options of `shards make`]
    python tools/kill_often.py training CONFIG [--kills 20] [--seed 0] [--serve DIR] [key=value ...]

The moments are drawn from the seed: one in five falls into the start of the process, the others into its work, such
that some come to their end between the kills, and are compared then: all files of a conversion; of a run the
batches and losses of every step, and the weights at its end. With --serve the shards in a folder are streamed over
HTTP, from a server that fails one request in twenty, through a cache that every start finds as the last kill left
it. Standard output has a line for each kill, or with --json one object; the exit code is 1 if anything differs.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from kills import Kill, kill_often
from servers import ShardServer

LIVES_A_ROUND = 6
CCSCALE = [sys.executable, "-m", "ccscale"]


@dataclass(frozen=True)
class Trial:
    """What is killed, and how it is looked at.

    Attributes
    ----------
    verb
        Of ``ccscale``.
    options
        The arguments that put what it makes into a folder.
    first
        A pattern of the file that is there when its work has begun.
    facts
        What must not differ from the unbroken run's, by name.
    state
        What is there at a moment.
    """

    verb: tuple[str, ...]
    options: Callable[[Path], list[str]]
    first: str
    facts: Callable[[Path], dict[str, str]]
    state: Callable[[Path], dict[str, Any]]


def carry_out(trial: Trial, arguments: list[str], kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill a command `kills` times.

    Parameters
    ----------
    trial
        Which.
    arguments
        Of the command, without those of `trial.options`.
    kills, seed
        How often; of the moments.
    folder
        A new folder for what it makes.

    Returns
    -------
    dict
        ``seconds`` and ``startup`` of the unbroken run, the number of ``facts``, ``rounds`` (how often it came to
        its end), ``different`` (names of facts that differ, in each round), ``kills``.
    """
    command = [*CCSCALE, *trial.verb, *arguments]
    unbroken, broken = folder / "unbroken", folder / "broken"
    seconds, startup = _time([*command, *trial.options(unbroken)], unbroken, trial.first)
    expected = trial.facts(unbroken)
    rng = random.Random(seed)
    different: list[list[str]] = []

    def draw_life() -> float:
        if rng.random() < 0.2:
            return rng.uniform(0, startup)
        return startup + rng.uniform(0, min(1, LIVES_A_ROUND / kills) * (seconds - startup))

    def finished() -> None:
        found = trial.facts(broken)
        different.append(sorted(name for name in expected | found if expected.get(name) != found.get(name)))

    done = kill_often(
        [*command, *trial.options(broken)],
        kills,
        rng,
        draw_life,
        observe=lambda: trial.state(broken),
        finished=finished,
        restart=lambda: shutil.rmtree(broken),
        told=lambda kill: print(_line(kill), file=sys.stderr),
    )
    return {
        "command": [*trial.verb, *arguments],
        "seed": seed,
        "seconds": round(seconds, 2),
        "startup": round(startup, 2),
        "facts": len(expected),
        "rounds": len(different),
        "different": different,
        "kills": [asdict(kill) for kill in done],
    }


def what_is_converted(out: Path) -> dict[str, Any]:
    """Return how far a conversion has come."""
    names = [path.name for path in out.rglob("*") if path.is_file()]
    return {
        "shards": sum(name.endswith(".tar") for name in names),
        "hashes": sum(name.startswith("hashes-") for name in names),
        "unfinished": sum(name.endswith(".part") for name in names),
        "manifest": "dataset.json" in names,
    }


def what_is_trained(run: Path) -> dict[str, Any]:
    """Return how far a run has come."""
    metrics = run / "metrics.jsonl"
    saved = sorted(path.name for path in run.glob("checkpoints/step-*") if path.is_dir())
    return {
        "lines": len(metrics.read_bytes().splitlines()) if metrics.exists() else 0,
        "newest": saved[-1] if saved else "none",
    }


def steps_and_weights(run: Path) -> dict[str, str]:
    """Return what identifies a run: batch and losses of every step, the hash of its last weights."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step":
            losses = (record["batch_digest"], record["loss"], record["instance_loss"], record["cluster_loss"])
            found[f"step {record['step']}"] = repr(losses)
    weights = sorted(run.glob("checkpoints/step-*/**/model.safetensors"))[-1]
    return found | {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()}


@contextmanager
def _served(folder: str | None) -> Iterator[list[str]]:
    """Serve the shards in a folder, if there is one; yield the settings that read them there."""
    if folder is None:
        yield []
        return
    with ShardServer(Path(folder)) as server:
        server.fail_at_random(0, 0.05, ("503", "cut", "reset", "short"))
        yield [f"data.shards={server.url}"]


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


TRIALS = {
    "conversion": Trial(("shards", "make"), lambda out: [str(out)], "*.tar*", digests, what_is_converted),
    "training": Trial(
        ("train",),
        # The unbroken run has a cache of its own, or the killed one would never read from the server.
        lambda run: [f"run={run}", f"data.cache={run}-cache"],
        "metrics.jsonl",
        steps_and_weights,
        what_is_trained,
    ),
}


def _time(command: list[str], out: Path, first: str) -> tuple[float, float]:
    """Run a command to its end; return its seconds, and those until there was a file of the pattern `first`."""
    start, startup = time.monotonic(), None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if startup is None and any(out.glob(first)):
            startup = time.monotonic() - start
        time.sleep(0.01)
    if process.returncode != 0:
        raise SystemExit(f"the unbroken run ended with code {process.returncode}")
    seconds = time.monotonic() - start
    return seconds, seconds if startup is None else startup


def _line(kill: Kill) -> str:
    state = ", ".join(f"{name} {value}" for name, value in kill.state.items())
    return f"round {kill.round}: killed the {kill.target} after {kill.life:.2f} s: {state}"


def main() -> int:
    """Parse, kill, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="what", required=True)
    for name, about in (("conversion", "kill `ccscale shards make`"), ("training", "kill `ccscale train`")):
        verb = verbs.add_parser(name, help=about, allow_abbrev=False)
        verb.add_argument("--kills", type=int, default=20)
        verb.add_argument("--seed", type=int, default=0, help="of the moments")
        verb.add_argument("--json", action="store_true")
    verb.add_argument("--serve", metavar="DIR", help="stream the shards in DIR over HTTP, with faults")
    args, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, _served(getattr(args, "serve", None)) as settings:
        given = [*arguments, *settings]
        result = carry_out(TRIALS[args.what], given, args.kills, args.seed, Path(folder))
    if args.json:
        print(json.dumps(result))
    else:
        print(f"unbroken: {result['seconds']} s, {result['startup']} s of it to the first result")
        for kill in result["kills"]:
            print(_line(Kill(**kill)))
        print(
            f"{result['rounds']} came to their end; of {result['facts']} facts differ: {result['different']}"
        )
    return 1 if any(result["different"]) else 0


if __name__ == "__main__":
    sys.exit(main())
