"""Compares what `ccscale plan` says beforehand with what the work takes then: time, and memory of its own.

    python tools/bench/planned.py kmeans STORE --clusters 1000 [--json]
    python tools/bench/planned.py neighbours STORE --k 25 [--json]
    python tools/bench/planned.py heads STORE [key=value ...] [--json]

Plan and work are processes of their own, one after the other; the machine should have nothing else to do. Where it
has, `--busy` reckons with the processor's seconds in place of the clock's, and one thread. Memory is what the
process holds beyond the page cache at most (RssAnon), seen from outside. Of heads the steps count, from the run's
log, without start and evaluations (with `--busy` all of the process but what it takes with one step alone); the
run's folder is a temporary one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import commit, machine
from tool import exit_code, parser, tell

CCSCALE = [sys.executable, "-m", "ccscale"]
PLAN = "import time as t; t.perf_counter = t.process_time; import ccscale.cli.main as m; raise SystemExit(m.main())"
STORE_TOOL = [sys.executable, str(Path(__file__).with_name("store.py"))]


class Taken(NamedTuple):
    """What a process took: seconds of the clock and of the cores, most bytes of its own, what it printed."""

    seconds: float
    cpu_seconds: float
    bytes: int
    output: str


def run(command: list[str]) -> Taken:
    """Run a command, and watch it.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    begun, most = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            most = max(most, _held(process.pid))
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}")
        output.seek(0)
        return Taken(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, most, output.read())


def _held(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def compare(planned: dict[str, Any], plan: Taken, seconds: float, work: Taken) -> dict[str, Any]:
    """Return both, and what the plan said by what came."""
    return {
        "planned_seconds": planned["seconds"],
        "seconds": seconds,
        "planned_bytes": planned["bytes"],
        "bytes": work.bytes,
        "seconds_ratio": planned["seconds"] / seconds,
        "bytes_ratio": planned["bytes"] / work.bytes,
        "cpu_seconds": work.cpu_seconds,
        "plan_seconds": plan.seconds,
        "machine": machine(),
        "commit": commit(),
    }


def plan_of(line: list[str], busy: bool) -> Taken:
    """Run `ccscale plan`."""
    command = [sys.executable, "-c", PLAN] if busy else CCSCALE
    return run([*command, "plan", *line, "--json"])


def of_store(what: str, store: Path, arguments: list[str], work: list[str], busy: bool) -> dict[str, Any]:
    """Plan and do something with a store."""
    plan = plan_of(["store", str(store), *arguments], busy)
    planned = json.loads(plan.output)[what]
    taken = run(work)
    told = json.loads(taken.output)
    if busy:
        told["seconds"] = told["cpu_seconds"]
    kept = {name: told[name] for name in ("passes", "acc", "recall", "probes", "cells") if name in told}
    return {"what": what, **compare(planned, plan, told["seconds"], taken), **kept}


def heads(store: Path, overrides: list[str], busy: bool) -> dict[str, Any]:
    """Plan and train heads on a store."""
    with tempfile.TemporaryDirectory() as folder:
        config, steps = Path(folder) / "config.yaml", Path(folder) / "run" / "metrics.jsonl"
        config.write_text(json.dumps({"data": {"features": str(store)}, "run": f"{folder}/run"}))
        line = [str(config), *overrides]
        plan = plan_of([*line, "--measure"], busy)
        pace = json.loads(plan.output)["pace"]
        short = run([*CCSCALE, "train", *line, "train.max_steps=1"]) if busy else None
        taken = run([*CCSCALE, "train", *line])
        records = [json.loads(line) for line in steps.read_text().splitlines()]
        of_steps = [record for record in records if record["kind"] == "step"]
        seconds = of_steps[-1]["time"] - of_steps[0]["time"]
        if short is not None:
            seconds = taken.cpu_seconds - short.cpu_seconds
        planned = pace["step"] * (of_steps[-1]["step"] - of_steps[0]["step"])
        return {
            "what": "heads",
            **compare({"seconds": planned, "bytes": pace["bytes"]}, plan, seconds, taken),
            "steps": of_steps[-1]["step"],
            "step": pace["step"],
            "epoch": pace["epoch"],
        }


def show(result: dict[str, Any]) -> None:
    """Print a line for each figure."""
    for name, value in result.items():
        print(f"{name:16} {value:,.3f}" if isinstance(value, float) else f"{name:16} {value}")


def main() -> int:
    """Run the command line."""
    options = parser(__doc__)
    options.add_argument("what", choices=("kmeans", "neighbours", "heads"))
    options.add_argument("store", type=Path, metavar="STORE")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="of the heads' config")
    options.add_argument("--clusters", type=int, default=1000)
    options.add_argument("--k", type=int, default=25)
    options.add_argument("--busy", action="store_true", help="the machine has other work")
    args = options.parse_args()
    if args.busy:
        os.environ["OMP_NUM_THREADS"] = "1"
    store = str(args.store)
    if args.what == "kmeans":
        clusters = ["--clusters", str(args.clusters)]
        work = [*STORE_TOOL, "kmeans", store, *clusters, "--json"]
        result = of_store("k_means", args.store, clusters, work, args.busy)
    elif args.what == "neighbours":
        work = [*STORE_TOOL, "neighbours", store, "--k", str(args.k), "--json"]
        result = of_store("neighbours", args.store, ["--neighbours", str(args.k)], work, args.busy)
    else:
        result = heads(args.store, args.overrides, args.busy)
    tell(result, args.json, show)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
