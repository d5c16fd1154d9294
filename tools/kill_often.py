#!/usr/bin/env python
"""Kill a command at random moments, start it again, and compare what comes of it with an unbroken run.

    python tools/kill_often.py conversion KIND [SOURCE] [--kills 20] [--seed 0] [options of `shards make`]

The moments are drawn from the seed: one in five falls into the start of the process, the others into its work, such
that some conversions come to their end between the kills, and are compared then. Standard output has a line for
each kill, or with --json one object; the exit code is 1 if a byte differs.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kills import Kill, kill_often

LIVES_A_ROUND = 6
MAKE = [sys.executable, "-m", "ccscale", "shards", "make"]


def conversion(arguments: list[str], kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill a conversion `kills` times.

    Parameters
    ----------
    arguments
        Of ``shards make``, without OUT.
    kills, seed
        How often; of the moments.
    folder
        A new folder for the shards.

    Returns
    -------
    dict
        ``seconds`` and ``startup`` of the unbroken run, ``files``, ``rounds`` (conversions that came to their end),
        ``different`` (names of files that differ, in each round), ``kills``.
    """
    unbroken, broken = folder / "unbroken", folder / "broken"
    seconds, startup = _time([*MAKE, *arguments, str(unbroken)], unbroken)
    expected = digests(unbroken)
    rng = random.Random(seed)
    different: list[list[str]] = []

    def draw_life() -> float:
        if rng.random() < 0.2:
            return rng.uniform(0, startup)
        return startup + rng.uniform(0, min(1, LIVES_A_ROUND / kills) * (seconds - startup))

    def observe() -> dict[str, Any]:
        names = [path.name for path in broken.rglob("*") if path.is_file()]
        return {
            "shards": sum(name.endswith(".tar") for name in names),
            "hashes": sum(name.startswith("hashes-") for name in names),
            "unfinished": sum(name.endswith(".part") for name in names),
            "manifest": "dataset.json" in names,
        }

    def finished() -> None:
        found = digests(broken)
        different.append(sorted(name for name in expected | found if expected.get(name) != found.get(name)))

    done = kill_often(
        [*MAKE, *arguments, str(broken)],
        kills,
        rng,
        draw_life,
        observe,
        finished,
        restart=lambda: shutil.rmtree(broken),
        told=lambda kill: print(_line(kill), file=sys.stderr),
    )
    return {
        "command": ["shards", "make", *arguments],
        "seed": seed,
        "seconds": round(seconds, 2),
        "startup": round(startup, 2),
        "files": len(expected),
        "rounds": len(different),
        "different": different,
        "kills": [asdict(kill) for kill in done],
    }


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _time(command: list[str], out: Path) -> tuple[float, float]:
    """Run a command to its end; return its seconds, and those until its first tar was begun."""
    start, startup = time.monotonic(), None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if startup is None and any(out.glob("*.tar*")):
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
    verb = verbs.add_parser("conversion", help="kill `ccscale shards make`", allow_abbrev=False)
    verb.add_argument("--kills", type=int, default=20)
    verb.add_argument("--seed", type=int, default=0, help="of the moments")
    verb.add_argument("--json", action="store_true")
    args, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        result = conversion(arguments, args.kills, args.seed, Path(folder))
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"unbroken: {result['seconds']} s, {result['startup']} s of it to the first shard; "
            f"{result['files']} files"
        )
        for kill in result["kills"]:
            print(_line(Kill(**kill)))
        print(f"{result['rounds']} conversions came to their end; files that differ: {result['different']}")
    return 1 if any(result["different"]) else 0


if __name__ == "__main__":
    sys.exit(main())
