#!/usr/bin/env python
"""What a training step asks of the host: operators that it dispatches, and the processor's time, part by part.

Where images are small, a GPU waits for the host to launch a step. A CPU shows how much there is to launch: a real
run is trained in this process, by one thread, on few and small images, so that computing takes little. Operators
are counted in one step; those that make no number (a view of a tensor, empty memory) launch nothing and count
apart. The seconds are this thread's own, of the quickest of the steps after it.

    python tools/bench/host.py SHARDS [key=value ...]      any config key, as train.ema=0.999
"""

import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Column, Table
from torch.utils._python_dispatch import TorchDispatchMode

from ccscale.config.file import parse_config
from ccscale.engine.adapter import Engine
from ccscale.engine.guard import StepGuard
from ccscale.model.average import Average
from ccscale.train.feed import Feed
from ccscale.train.log import RunLog
from ccscale.train.loop import Trainer
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

WARM_UP = 3
PARTS: list[tuple[str, type, str]] = [
    ("views", Stepper, "_inputs"),
    ("network", Engine, "__call__"),
    ("losses", Stepper, "_take_losses"),
    ("backward, with the losses' own", Engine, "backward"),
    ("optimizer", Engine, "step"),
    ("guard", StepGuard, "begin"),
    ("guard", StepGuard, "_judge"),
    ("guard", StepGuard, "end"),
    ("average", Average, "update"),
    ("feed", Trainer, "fetch"),
    ("feed", Feed, "begin"),
    ("agreement", Trainer, "agree"),
    ("log", RunLog, "step"),
    ("log", RunLog, "flush"),
    ("the rest of a step", Trainer, "take_step"),
]
"""Parts and the methods that they are; what is inside another is not counted there."""


class Host(TorchDispatchMode):
    """Notes what each part of each step takes of this thread.

    Attributes
    ----------
    launching, others, seconds
        For each part, of the step at hand: operators that compute, those that do not, seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._within: list[tuple[str, float]] = []
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        self.launching, self.others = Counter[str](), Counter[str]()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count for a part; what goes on around it stands still."""
        self._pass(name)
        try:
            yield
        finally:
            self._pass(None)

    def _pass(self, name: str | None) -> None:
        now = time.thread_time()
        if self._within:
            of, since = self._within.pop()
            self.seconds[of] += now - since
            if name is not None:
                self._within.append((of, now))
        if name is not None:
            self._within.append((name, now))
        elif self._within:
            of, _ = self._within.pop()
            self._within.append((of, now))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._within:
            (self.launching if _computes(function) else self.others)[self._within[-1][0]] += 1
        return function(*args, **(kwargs or {}))


def _computes(function: Any) -> bool:
    schema = function._schema
    is_view = any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns)
    name = schema.name.split("::")
    return not is_view and name[0] != "profiler" and "empty" not in name[1]


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("shards", metavar="SHARDS", help="a data set in shards")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the run")
    options.add_argument("--steps", type=int, default=12, help="that are timed (default: %(default)s)")
    args = options.parse_args()

    def take() -> int:
        tell(measure(args.shards, args.overrides, args.steps), args.json, show)
        return 0

    return exit_code(take)


def measure(shards: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """Train, and return what each part took."""
    host, counted = Host(), None
    timed: list[dict[str, float]] = []
    take_step = Trainer.take_step

    def noted(trainer: Trainer) -> Any:
        nonlocal counted
        host.begin()
        counts = trainer.step + 1 == WARM_UP
        with ExitStack() as stack:
            stack.enter_context(host.part("the rest of a step"))
            if counts:
                stack.enter_context(host)
            end = take_step(trainer)
        if counts:
            counted = host.launching, host.others
        elif trainer.step > WARM_UP:
            timed.append(dict(host.seconds))
        return end

    def within(name: str, original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            with host.part(name):
                return original(*arguments, **options)

        return call

    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        settings: dict[str, Any] = {
            "data": {"shards": str(Path(shards).resolve()), "workers": 0},
            "run": f"{folder}/run",
            "views": {"size": 32},
            "model": {"backbone": "resnet34", "clusters": 10},
            "train": {"global_batch": 8, "epochs": 1000, "max_steps": WARM_UP + steps, "device": "cpu"},
        }
        config = parse_config(settings, overrides)
        for name, owner, method in PARTS[:-1]:
            wrapped = within(name, getattr(owner, method))
            patches.enter_context(mock.patch.object(owner, method, wrapped))
        patches.enter_context(mock.patch.object(Trainer, "take_step", noted))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        train_run(config)
        torch.set_num_threads(threads)
    assert counted is not None
    parts = dict.fromkeys(name for name, *_ in PARTS)
    quickest = min(timed, key=lambda seconds: sum(seconds.values()))
    launching, others = counted
    return {
        "backbone": config.model.backbone,
        "size": config.views.size,
        "global_batch": config.train.global_batch,
        "torch": torch.__version__,
        "parts": {
            name: {
                "launching": launching[name],
                "others": others[name],
                "ms": 1000 * quickest.get(name, 0.0),
            }
            for name in parts
            if name in quickest
        },
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    right = [Column(title, justify="right") for title in ("operators that compute", "others", "ms")]
    table = Table("part of a step", *right)
    for name, part in found["parts"].items():
        table.add_row(name, f"{part['launching']:,}", f"{part['others']:,}", f"{part['ms']:.2f}")
    table.add_section()
    sums = {key: sum(part[key] for part in found["parts"].values()) for key in ("launching", "others", "ms")}
    table.add_row("all", f"{sums['launching']:,}", f"{sums['others']:,}", f"{sums['ms']:.2f}")
    console = Console()
    keys = ("backbone", "size", "global_batch", "torch")
    console.print(", ".join(f"{key} {found[key]}" for key in keys), highlight=False)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
