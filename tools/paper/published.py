#!/usr/bin/env python
"""The published single-GPU formulation of Contrastive Clustering beside ccscale: scores and time, same images.

    python tools/paper/published.py CONFIG --seeds 0 1 2 --out DIR [key=value ...] [--json]

The formulation (formulation.py): one process; torchvision's transforms on PIL images in a DataLoader; a
forward pass for each view, with ordinary batch norm; the losses by the whole similarity matrix with a mask; torch's
Adam. The network begins with the same weights; shards, backbone, batch, epochs, learning rate, temperatures and the
settings of the views are the config's; so is the self-labelling afterwards, where the config has one (boosting.py).
Both are scored alike: the whole image resized, the cluster head's argmax after the last step. The seconds are those
of training alone, waiting for images included.

What is not the same: the order of the images and the views' random numbers. ccscale takes the statistics of batch
norm over both views together, decodes an image once for both, a JPEG at a reduced scale where that serves, and
applies colour and blur to floating-point numbers, not to pixels of 8 bits. The blur is torchvision's (the published
code's is OpenCV's).

    DIR/published/seed=N.json   DIR/ccscale/seed=N   DIR/ccscale/seed=N.json

What is finished is not done again.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ccscale import atomic
from ccscale.config import LOSSES, Config
from ccscale.errors import InputError
from ccscale.progress import say

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from benchmark import Cell, plan, run_cell
from cell import SCORES
from formulation import train
from measure import commit, machine
from results import SHOWN, mean_and_spread, short, with_spread
from studies import CLUSTER_HEAD, Variant
from tool import exit_code, parser, tell

NAMES = ("published", "ccscale")
DOES_NOT_WAIT = "stages.boost.settled=0"  # the formulation begins with its labels after an epoch of looking
FACTS = ("seconds", "steps", "commit", "machine")


def check(config: Config) -> None:
    """Refuse what the published formulation does not have.

    Raises
    ------
    InputError
        Naming the key.
    """
    train = config.train
    for key, wrong in (
        ("data.phases", len(config.phases) > 1),
        ("views.raw", config.views.raw > 0),
        ("model.normalize", config.model.normalize),
        ("train.micro_batch", train.micro_batch is not None),
        ("train.precision", train.precision != "fp32"),
        ("train.clip", train.clip is not None),
        ("train.compile", train.compile),
        ("train.max_steps", train.max_steps is not None),
        ("loss.instance_weight and loss.cluster_weight", config.losses != set(LOSSES)),
        ("stages.boost.selection", config.stages.boost.selection != "threshold"),
        ("stages.boost.label_smoothing", config.stages.boost.label_smoothing > 0),
        ("stages.boost without class_balance", not config.stages.boost.class_balance),
    ):
        if wrong:
            raise InputError(f"the published formulation has no {key}: leave it at what it is by default")


def results(cells: Sequence[Cell], out: Path) -> Iterator[dict[str, Any]]:
    """Yield the figures of both formulations, seed by seed, in turns; what is there is not done again."""
    for cell in cells:
        yield {"by": "published", "seed": cell.seed, **_published(cell, out)}
        if cell.read() is None:
            say(f"ccscale, seed {cell.seed}")
            if code := run_cell(cell):
                raise SystemExit(code)
        record = cell.read()
        assert record is not None
        facts = {name: record[name] for name in FACTS}
        yield {"by": "ccscale", "seed": cell.seed, **record["scores"][CLUSTER_HEAD], **facts}


def _published(cell: Cell, out: Path) -> dict[str, Any]:
    """Return what the published formulation comes to with a cell's config."""
    folder = str(out / "published" / f"seed={cell.seed}")
    own = Cell(cell.variant, cell.seed, cell.config.model_copy(update={"run": folder}))
    record = own.read()
    if record is None:
        say(f"published formulation, seed {cell.seed}")
        record = train(own.config) | {"commit": commit(), "machine": machine()}
        record["config"] = own.config.model_dump(mode="json")
        own.record.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(own.record, (json.dumps(record, indent=1) + "\n").encode())
    return {name: record[name] for name in (*SCORES, *FACTS)}


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and spread of every figure, of each formulation."""
    return {
        by: {
            name: _summed_up([run[name] for run in runs if run["by"] == by]) for name in (*SCORES, "seconds")
        }
        for by in NAMES
    }


def _summed_up(values: Sequence[float]) -> dict[str, float | None]:
    mean, spread = mean_and_spread(values)
    return {"mean": mean, "spread": spread}


def show(runs: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("", "seed")
    for title in (*SHOWN.values(), "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for by in NAMES:
        mine = [run for run in runs if run["by"] == by]
        for run in mine:
            table.add_row(
                by, str(run["seed"]), *(short(run[name]) for name in SHOWN), f"{run['seconds']:,.1f}"
            )
        mean, spread = mean_and_spread([run["seconds"] for run in mine])
        seconds = f"{mean:,.1f}" + ("" if spread is None else f" ± {spread:,.1f}")
        means = (with_spread([run[name] for run in mine]) for name in SHOWN)
        table.add_row(by, "mean", *means, seconds, end_section=True)
    console = Console(highlight=False)
    console.print(table)
    facts = [", ".join(sorted({run[name] for run in runs})) for name in ("commit", "machine")]
    assert __doc__ is not None
    differences = __doc__[__doc__.index("What is not the same") :].partition("\n\n")[0]
    for line in (f"commit {facts[0]}; {facts[1]}; seconds of training alone", " ".join(differences.split())):
        console.print(line, markup=False, soft_wrap=True)


def main() -> int:
    """Compare and return the exit code."""
    options = parser(__doc__)
    options.add_argument("config", metavar="CONFIG", help="a YAML file")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings over those of the file")
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs and figures")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    args = options.parse_args()

    def compare() -> int:
        cells = plan(
            [Variant("ccscale", args.config, (*args.overrides, DOES_NOT_WAIT))], args.seeds, args.out
        )
        check(cells[0].config)
        runs = list(results(cells, args.out))
        tell({"runs": runs, "summary": summary(runs)}, args.json, lambda found: show(found["runs"]))
        return 0

    return exit_code(compare)


if __name__ == "__main__":
    sys.exit(main())
