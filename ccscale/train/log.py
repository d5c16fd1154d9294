"""What a run writes and shows as it goes: metrics.jsonl, TensorBoard, a progress bar or a line now and then.

A line of metrics.jsonl is a step or an evaluation::

    {"kind": "step", "step": 1, "epoch": 1, "loss": …, "instance_loss": …, "cluster_loss": …, "lr": …,
     "images_per_second": …, "data_wait": …, "batch_digest": "…", "time": …}
    {"kind": "evaluation", "step": …, "epoch": …, "splits": […], "sizes": […], "acc": …, …, "time": …}

A loss that the step does not compute is null; where epochs have phases, `phase` counts them from 1.

A step is known by its number: a run that goes on from a checkpoint first drops the lines after it.

A disk that is full or read-only does not stop a run: its lines are kept, and written when it takes them again.
"""

import contextlib
import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from ccscale import atomic
from ccscale.progress import Meter, say

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
MOST_UNWRITTEN = 100_000


class RunLog:
    """The log of one run, on rank 0; on the other ranks it writes nothing.

    Parameters
    ----------
    folder
        The run's folder.
    start, stop
        Steps that are done, steps that there will be.
    every
        Steps between flushes. Reading a loss waits for the device, so it is put off until then.
    images
        Images in a step.
    write
        Whether this is rank 0.
    judge
        Called on every rank after each flush, when the device has been waited for.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        stop: int,
        every: int,
        images: int,
        write: bool,
        judge: Callable[[], None] = lambda: None,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = folder / METRICS
        self._every, self._images, self._write, self._judge = every, images, write, judge
        self._before_writing = before_writing
        self._pending: list[dict[str, Any]] = []
        self._clock = time.perf_counter()
        self._meter = Meter("training", stop, "steps", show=write, done=start)
        self._unwritten: deque[dict[str, Any]] = deque(maxlen=MOST_UNWRITTEN)
        self._failing = False
        self._board: SummaryWriter | None = None
        self._thread_hook = threading.excepthook
        if write:
            drop_after(self._path, start)
            self._open_board(start + 1)

    def __enter__(self) -> "RunLog":
        threading.excepthook = self._tell_thread
        self._meter.__enter__()
        self._clock = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._write_pending()
            if error[0] is None:
                self._judge()
        finally:
            threading.excepthook = self._thread_hook
            self._meter.__exit__(*error)
            if self._board is not None:
                try:
                    self._board.close()
                except Exception as failure:
                    self._leave_board(failure)

    def step(self, record: dict[str, Any]) -> None:
        """Note a step. The values may be tensors on the device; the clock is read here."""
        now = time.perf_counter()
        record |= {"images_per_second": self._images / (now - self._clock), "time": time.time()}
        self._clock = now
        self._pending.append({"kind": "step", **record})
        if len(self._pending) >= self._every:
            self.flush()

    def evaluation(self, record: dict[str, Any]) -> None:
        """Note an evaluation; its time does not count as a step's."""
        self.flush()
        self._append([{"kind": "evaluation", **record, "time": time.time()}])
        self._clock = time.perf_counter()

    def flush(self) -> None:
        """Write what is pending, and judge it; after this every step so far is in the file."""
        if self._pending:
            self._write_pending()
            self._judge()

    def _write_pending(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        records: list[dict[str, Any]] = [
            {key: float(value) if torch.is_tensor(value) else value for key, value in record.items()}
            for record in pending
        ]
        self._append(records)
        last = records[-1]
        self._meter.update(last["step"], f"epoch {last['epoch']}, loss {last['loss']:.4f}")

    def has_evaluation(self, step: int) -> bool:
        """Tell whether the file has a line of an evaluation after `step`."""
        if not self._path.exists():
            return False
        records = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
        return any(record["kind"] == "evaluation" and record["step"] == step for record in records)

    def skip_time(self) -> None:
        """Do not count the time since the last step (a save) as the next one's."""
        self._clock = time.perf_counter()

    def _append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write lines, and those that could not be written before; tell once that it cannot be done."""
        if not self._write:
            return
        self._before_writing()
        self._unwritten.extend(records)
        try:
            append_lines(self._path, [json.dumps(_finite(record)) for record in self._unwritten])
        except OSError as error:
            if not self._failing:
                say(
                    f"warning: {self._path} cannot be written ({error.strerror}); the run goes on, and its lines "
                    "are written when it can be"
                )
            self._failing = True
            return
        if self._failing:
            say(f"{self._path} can be written again: {len(self._unwritten)} lines are made up for")
            self._failing = False
        for record in self._unwritten:
            self._to_board("train" if record["kind"] == "step" else "evaluate", record)
        self._unwritten.clear()

    def _open_board(self, step: int) -> None:
        try:
            self._board = SummaryWriter(str(self._path.parent / TENSORBOARD), purge_step=step)
        except OSError as error:
            self._leave_board(error)

    def _tell_thread(self, failure: threading.ExceptHookArgs) -> None:
        """Leave out TensorBoard's thread, which prints its end: it is told when the next number is handed to it."""
        if not type(failure.thread).__module__.startswith("tensorboard"):
            self._thread_hook(failure)

    def _leave_board(self, error: Exception) -> None:
        say(
            f"warning: TensorBoard's file cannot be written ({error}); this start of the run goes on without it"
        )
        self._board = None

    def _to_board(self, group: str, record: dict[str, Any]) -> None:
        for key, value in record.items():
            if isinstance(value, int | float) and key not in ("step", "time") and self._board is not None:
                try:
                    self._board.add_scalar(f"{group}/{key}", value, record["step"])
                except Exception as error:  # of any kind: its thread's failure is raised here
                    self._leave_board(error)


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append lines to a file, all of them or none.

    Raises
    ------
    OSError
        If the disk does not take them; the file is as it was.
    """
    size = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """Put null for numbers that JSON does not have."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }


def drop_after(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a last line that was cut off."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for line in lines:
        with contextlib.suppress(ValueError):
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    if len(kept) < len(lines):
        atomic.write_bytes(path, b"".join(kept))


def describe(summary: dict[str, Any]) -> str:
    """Return one line for people of what `evaluate.tally.Tally.summary` found."""
    parts = [f"{name.upper()} {summary[name]:.3f}" for name in ("acc", "nmi", "ari") if name in summary]
    used = summary["clusters"] - summary["empty"]
    parts.append(f"{used} of {summary['clusters']} clusters used, the largest {summary['largest']:.0%}")
    parts.append(f"confidence {summary['confidence']:.2f}")
    if not summary["labelled"]:
        parts.append("no labels")
    return ", ".join(parts)
