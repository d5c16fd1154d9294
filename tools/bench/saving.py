#!/usr/bin/env python
"""What share of its time training waits for checkpoints.

Trains the demo's model on the digits (or another config) and saves far more often than one would. Training waits
while the state is copied, and where the save before is still being written; both are measured, at each save. From
the mean wait and the median step follows the share at any `train.save_every`. Steps that are taken while a save is
written behind them are timed on their own: what the writing takes from them is no wait, and is shown beside it.

    python tools/bench/saving.py [CONFIG] [key=value ...] [--steps 60] [--every 6] [--json]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Config, Train
from ccscale.config.file import load_config
from ccscale.config.recipes import find_recipe
from ccscale.data.conversion.shards import make_shards
from ccscale.data.sources.kinds import open_source
from ccscale.demo import RECIPE
from ccscale.device import pick_device
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.heartbeat import Heartbeat
from ccscale.train.loop import Trainer
from ccscale.train.setup import set_up

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from measure import processor
from tool import exit_code, parser, tell

DEFAULT = Train.model_fields["save_every"].default


class TimedTrainer(Trainer):
    """Notes what each save is waited for, and what each step takes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waits: list[float] = []
        self.last_wait = 0.0
        self.quiet: list[float] = []
        self.writing: list[float] = []
        self._clock = 0.0

    def agree(self, *arguments: Any) -> Any:
        """Note the time of a step, by whether a save is being written behind it."""
        seconds, self._clock = time.perf_counter() - self._clock, time.perf_counter()
        if self.step > 3:  # the first ones allocate and compile
            (self.writing if self.saver.is_busy else self.quiet).append(seconds)
        return super().agree(*arguments)

    def save(self, wait: bool) -> None:
        """Note what a save is waited for."""
        before = self.saver.seconds
        super().save(wait)
        waited = self.saver.seconds - before
        if wait:
            self.last_wait = waited
        else:
            self.waits.append(waited)
        self._clock = time.perf_counter()


def measure(config: Config) -> dict[str, Any]:
    """Train and save; return the figures."""
    device = pick_device(config.train.device)
    with FolderLock(config.run_folder) as lock, process_group(RankEnvironment(), device):
        setup = set_up(config, RankEnvironment(), device, lock)
        trainer = TimedTrainer(setup, Heartbeat(), StopRequest())
        trainer.run()
        folder = config.run_folder / "checkpoints"
        newest = max(folder.glob("step-*"))
        size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    step = statistics.median(trainer.quiet)
    return {
        "backbone": config.model.backbone,
        "global_batch": config.train.global_batch,
        "device": str(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "saves": len(trainer.waits),
        "megabytes": size / 1e6,
        "wait_ms": 1000 * statistics.mean(trainer.waits),
        "longest_wait_ms": 1000 * max(trainer.waits),
        "last_save_ms": 1000 * trainer.last_wait,
        "step_ms": 1000 * step,
        "step_while_writing_ms": 1000 * statistics.median(trainer.writing) if trainer.writing else None,
    }


def shares(found: dict[str, Any], every: Sequence[int]) -> dict[str, float]:
    """Return the share of the time that is spent waiting, for some values of ``train.save_every``."""
    wait, step = found["wait_ms"], found["step_ms"]
    return {str(number): wait / (wait + number * step) for number in every}


def main() -> int:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("config", metavar="CONFIG", nargs="?", help="a YAML file (default: the demo's)")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings of the run")
    options.add_argument("--steps", type=int, default=60, help="(default: %(default)s)")
    options.add_argument("--every", type=int, default=6, help="steps between saves (default: %(default)s)")
    args = options.parse_args()

    def train() -> int:
        overrides = args.overrides
        if args.config is not None and "=" in args.config:
            overrides, args.config = [args.config, *overrides], None
        with tempfile.TemporaryDirectory(dir=".") as place:
            if args.config is None:
                make_shards(open_source("digits"), Path(place) / "shards", progress=False)
                overrides = [f"data.shards={place}/shards", *overrides]
            file = args.config or str(find_recipe(RECIPE))
            own = load_config(file, overrides).train.save_every
            fixed = [
                f"run={place}/run",
                f"train.max_steps={args.steps}",
                f"train.save_every={args.every}",
                "train.save_minutes=null",
            ]
            found = measure(load_config(file, [*overrides, *fixed]))
        found["shares"] = shares(found, sorted({DEFAULT, own}))
        tell(found, args.json, show)
        return 0

    return exit_code(train)


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(
        f"{found['backbone']}, global batch {found['global_batch']}, {found['device']}, "
        f"{found['threads']} threads, {found['processor']}"
    )
    print(
        f"a checkpoint of {found['megabytes']:.0f} MB is waited for {found['wait_ms']:.1f} ms (longest "
        f"{found['longest_wait_ms']:.1f} ms, {found['saves']} saves), the last one of a run until it is complete: "
        f"{found['last_save_ms']:.0f} ms"
    )
    writing = found["step_while_writing_ms"]
    beside = "" if writing is None else f", {writing:.1f} ms while a checkpoint is written behind it"
    print(f"a step takes {found['step_ms']:.1f} ms{beside}")
    for every, share in found["shares"].items():
        note = " (the default)" if int(every) == DEFAULT else ""
        print(f"train.save_every {every}{note}: {100 * share:.3f} % of the time is spent waiting")


if __name__ == "__main__":
    sys.exit(main())
