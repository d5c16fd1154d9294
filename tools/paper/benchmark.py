#!/usr/bin/env python
"""The paper's comparisons on any shards, with several seeds: runs, scores, a table and a figure.

    python tools/paper/benchmark.py heads CONFIG --seeds 0 1 2 --out DIR [key=value ...]
    python tools/paper/benchmark.py augmentation CONFIG --out DIR [key=value ...]
    python tools/paper/benchmark.py backbone CONFIG --values resnet18 resnet34 --out DIR
    python tools/paper/benchmark.py batch-size CONFIG --values 64 128 --out DIR
    python tools/paper/benchmark.py table2 --data FOLDER [--modern] --out DIR [key=value ...]
    python tools/paper/benchmark.py self-labelling CONFIG --out DIR stages.boost.epochs=N [key=value ...]
    python tools/paper/benchmark.py demo --out DIR [key=value ...]

Every cell is an ordinary run, which resumes by itself; what is finished is not done again::

    DIR/VARIANT/seed=N        the run                 DIR/results.csv    a row a run
    DIR/VARIANT/seed=N.json   its scores              DIR/table.md       mean ± spread over the seeds
                                                      DIR/figure.png

Runs go one after the other, each in a process of its own. With --launch they are submitted as jobs instead, an
array; the same command without it then scores them and writes the table (see `ccscale launch --help` for what it
takes). Beside them stands k-means on pixels and on the features of the backbone that was not trained.

Labels choose nothing: the last step of each run is scored (after self-labelling the one that serves), and all seeds
count. --best-by-labels takes the best evaluated epoch, and the table then says so.
"""

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccscale.cli.launch import add_arguments, read_resources
from ccscale.cli.parser import IntermixedParser
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.errors import Fault, InputError
from ccscale.exit_codes import STOPPED
from ccscale.features.store import open_features
from ccscale.preempt import stop_on_signal
from ccscale.progress import say

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
import studies
from results import Row, figures_of, table, write_results
from studies import Variant
from tool import add_json, exit_code, tell

CELL = Path(__file__).resolve().parent / "cell.py"
FIXED = ("run", "seed")
STUDIES: dict[str, tuple[str, Callable[[argparse.Namespace], list[Variant]]]] = {
    "heads": ("both heads, and each alone", lambda args: studies.heads(args.config, args.overrides)),
    "augmentation": (
        "each operation left out, one view raw, none",
        lambda args: studies.augmentation(args.config, args.overrides),
    ),
    "backbone": ("timm models", lambda args: studies.backbone(args.config, args.overrides, args.values)),
    "batch-size": (
        "global batches",
        lambda args: studies.batch_size(args.config, args.overrides, args.values),
    ),
    "table2": (
        "the paper's six data sets, as far as their shards are there",
        lambda args: studies.table2(args.data, args.overrides, args.modern),
    ),
    "self-labelling": (
        "the stage, and as many epochs without it, from one run",
        lambda args: studies.self_labelling(args.config, args.overrides),
    ),
    "demo": ("the demo's digits", lambda args: studies.demo(args.out, args.overrides)),
}


@dataclass(frozen=True)
class Cell:
    """One run of a variant, or one k-means."""

    variant: Variant
    seed: int
    config: Config

    @property
    def record(self) -> Path:
        """Return the file with its scores."""
        folder = self.config.run_folder
        return folder.with_name(f"{folder.name}.json")

    def read(self) -> dict[str, Any] | None:
        """Return its scores if they are those of this very config."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(f"{self.record} cannot be read ({error}); remove it: it is made again") from None
        try:
            known = parse_config(record["config"])  # keys that were added since have their defaults
        except (InputError, KeyError):
            return None
        return record if known == self.config else None


def main() -> int:
    """Run a study and return the exit code."""
    args = _parser().parse_args()
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    variants, missing = choose(args)
    cells = plan(variants, args.seeds, args.out)
    if args.best_by_labels and any(not cell.config.evaluate.every for cell in cells):
        raise InputError("--best-by-labels needs evaluations while training: add evaluate.every=1")
    if args.launch is not None:
        launch(cells, args.out, args.launch)
        return 0
    for number, cell in enumerate(cells, start=1):
        if cell.read() is not None:
            continue
        say(f"{number}/{len(cells)}: {cell.variant.name}, seed {cell.seed}")
        copy_run(cell, cells)
        if code := run_cell(cell):
            if code == STOPPED:
                say("stopped; the same command goes on")
            return code
    rows = collect(cells, args.best_by_labels)
    heading = f"{args.study}: {getattr(args, 'config', STUDIES[args.study][0])}"
    markdown = table(rows, heading, missing, _notes(rows, cells, args.seeds), args.best_by_labels)
    chosen = " (epochs chosen by the labels)" if args.best_by_labels else ""
    write_results(args.out, rows, markdown, heading + chosen)
    found = {"table": str(args.out / "table.md"), "runs": [run for row in rows for run in row.runs]}
    tell(found, args.json, lambda _: print(markdown, end=""))
    return 0


def choose(args: argparse.Namespace) -> tuple[list[Variant], list[str]]:
    """Return the variants of a study with their baselines, and a line for each data set that is not there."""
    for override in args.overrides:
        if override.partition("=")[0] in FIXED:
            raise InputError(f"{override}: every run's folder and seed are set here, by --out and --seeds")
    variants = STUDIES[args.study][1](args)
    missing = [
        f"missing: {name} has no shards in {args.data / name}"
        for name in (studies.TABLE2 if args.study == "table2" else ())
        if name not in {variant.name for variant in variants}
    ]
    return [*variants, *studies.baselines(variants)], missing


def plan(variants: Sequence[Variant], seeds: Sequence[int], out: Path) -> list[Cell]:
    """Return all cells, their configs checked before any is begun."""
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))} names a seed twice")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    return [
        Cell(variant, seed, variant.load(out / variant.folder / f"seed={seed}", seed))
        for variant in variants
        for seed in seeds
    ]


def copy_run(cell: Cell, cells: Sequence[Cell]) -> None:
    """Give a cell that has no run yet a copy of the one that it goes on from."""
    folder = cell.config.run_folder
    if cell.variant.goes_on_from is None or folder.exists():
        return
    before = next(c for c in cells if (c.variant.name, c.seed) == (cell.variant.goes_on_from, cell.seed))
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(before.config.run_folder, part)
    part.rename(folder)


def run_cell(cell: Cell) -> int:
    """Do a cell in a process of its own; a signal to this one is handed on, and that one saves and stops."""
    # What is not told is left open: a feature store says which backbone made it.
    config = json.dumps(cell.config.model_dump(mode="json", exclude_unset=True))
    command = [sys.executable, str(CELL), cell.variant.kind, str(cell.record), config]
    with stop_on_signal() as request:
        # A session of its own: what is typed at the terminal reaches it through this process, once.
        process = subprocess.Popen(
            command, start_new_session=True, stdout=2
        )  # standard output is the table's
        told = False
        while True:
            try:
                code = process.wait(timeout=0.2)
                return STOPPED if told and code else code
            except subprocess.TimeoutExpired:
                if request and not told:
                    process.send_signal(signal.SIGTERM)
                    told = True


def launch(cells: Sequence[Cell], out: Path, options: str) -> None:
    """Submit the runs that are not scored yet, as `ccscale launch` does with these options."""
    if any(cell.variant.goes_on_from for cell in cells):
        raise InputError(
            "--launch: runs of this study go on from each other, one after the other; leave it out"
        )
    parser = argparse.ArgumentParser(prog="--launch", allow_abbrev=False)
    add_arguments(parser)
    args = parser.parse_args(["-", *shlex.split(options)])
    if args.overrides or args.sweep or args.json or args.dry_run:
        raise InputError(
            f"--launch {options!r}: it takes what `ccscale launch` says of the job, nothing else"
        )
    wanted = read_resources(args)
    todo = [cell.config for cell in cells if cell.variant.kind == "run" and cell.read() is None]
    configs = list({config.run: config for config in todo}.values())  # variants may look at one run
    if not configs:
        say("every run is trained and scored: there is nothing to submit")
        return
    for config in configs:
        config.check_ranks(wanted.ranks)
    out.mkdir(parents=True, exist_ok=True)
    if args.cluster == "local":
        from ccscale.launch.local import train_all_here

        with stop_on_signal() as request:
            for config, ended in train_all_here(configs, wanted.ranks, request, wanted):
                if ended.code:
                    raise Fault(f"the run {config.run} is not finished: exit code {ended.code}")
        say("the same command without --launch scores the runs and writes the table")
        return
    from ccscale.launch.logs import show_logs
    from ccscale.launch.submit import submit

    jobs = submit(configs, out / "runs", wanted)
    for job in jobs:
        say(f"job {job.job.job_id}: run {job.run}, log {job.log}")
    if args.follow and not show_logs(jobs):
        raise Fault(f"not all runs are finished; their logs are in {jobs[0].log.parent}")
    say("when they are finished, the same command without --launch scores them and writes the table")


def collect(cells: Sequence[Cell], best: bool) -> list[Row]:
    """Return the rows of the table from the cells' records."""
    rows: dict[tuple[str, str], Row] = {}
    for cell in cells:
        record = cell.read()
        assert record is not None
        row = rows.setdefault((cell.variant.name, cell.variant.scored_by), Row(cell.variant, []))
        row.runs.append(figures_of(cell.variant, cell.seed, record, best))
    return list(rows.values())


def _notes(rows: Sequence[Row], cells: Sequence[Cell], seeds: Sequence[int]) -> list[str]:
    scored = [run for row in rows if row.variant.kind == "run" for run in row.runs]
    runs = list({(run["variant"], run["seed"]): run for run in scored}.values())
    spread = "mean ± sample standard deviation" if len(seeds) > 1 else "one run each, so no spread is known"
    epochs = " to ".join(
        str(e) for e in sorted({min(r["epochs"] for r in runs), max(r["epochs"] for r in runs)})
    )
    config = cells[0].config
    return [
        f"seeds: {', '.join(map(str, seeds))}; {spread}; the runs are in results.csv",
        f"epochs: {epochs}; {_seen(config)}, global batch {config.train.global_batch}, unless the row says "
        "otherwise",
        f"training took {sum(run['seconds'] for run in runs):,.0f} seconds in all, "
        f"on {'; '.join(sorted({run['machine'] for run in runs}))}",
        f"commit {', '.join(sorted({run['commit'] for run in runs}))}: "
        f"`python tools/paper/benchmark.py {shlex.join(sys.argv[1:])}`",
    ]


def _seen(config: Config) -> str:
    """Say what a run sees of an image, and by what."""
    if config.data.features is None:
        return f"backbone {config.model.backbone}, views of {config.views.size} px"
    made = open_features(config.data.features).settings  # the config's own backbone is one that made nothing
    return f"features of {made.backbone} at {made.size} px"


def _parser() -> argparse.ArgumentParser:
    parser = IntermixedParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    for name, (help, _) in STUDIES.items():
        verb = verbs.add_parser(name, help=help, description=help, allow_abbrev=False)
        if name == "table2":
            verb.add_argument(
                "--data", type=Path, required=True, help="folder with cifar10/, stl10/, …: shards"
            )
            verb.add_argument("--modern", action="store_true", help="the modern recipes")
        elif name != "demo":
            verb.add_argument("config", metavar="CONFIG", help="a YAML file")
        if name in ("backbone", "batch-size"):
            default = studies.BACKBONES if name == "backbone" else studies.SIZES
            verb.add_argument(
                "--values", nargs="+", default=default, metavar="V", help=f"({' '.join(default)})"
            )
        verb.add_argument("overrides", metavar="key=value", nargs="*", help="settings over those of the file")
        verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs, tables and figure")
        verb.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
        verb.add_argument("--launch", metavar="OPTIONS", help="submit with these options of `ccscale launch`")
        verb.add_argument("--best-by-labels", action="store_true", help="score the best evaluated epoch")
        add_json(verb)
    return parser


if __name__ == "__main__":
    sys.exit(main())
