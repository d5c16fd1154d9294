"""The log of a run: metrics.jsonl, TensorBoard, trackers, and a progress bar or occasional lines."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ccscale.checkpoint.metrics_file import METRICS, MetricsFile, drop_after
from ccscale.device import read
from ccscale.progress import Meter, say
from ccscale.train.tensorboard import Board


class RunLog:
    """The log of one run, on rank 0; on the other ranks it writes nothing.

    Parameters
    ----------
    folder
        The run's folder.
    start, stop
        Steps done so far, and the last step.
    every
        Steps that are flushed together. Reading a loss synchronizes the device, so it is deferred until then.
    images
        Images per step.
    write
        Whether this is rank 0.
    before_writing
        See `MetricsFile`.
    tell
        Called when the file can be read, and after each change; on rank 0.
    news
        Returns warnings for the user, given the lines of some steps; on rank 0.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        stop: int,
        every: int,
        images: int,
        write: bool,
        before_writing: Callable[[], None] = lambda: None,
        tell: Callable[[], None] = lambda: None,
        news: Callable[[list[dict[str, Any]]], Iterable[str]] = lambda lines: (),
    ) -> None:
        self._folder, self._start = folder, start
        self._every, self._images, self._write = every, images, write
        self._pending: list[dict[str, Any]] = []
        self._clock = time.perf_counter()
        self._meter = Meter("training", stop, "steps", show=write, done=start)
        self.file = MetricsFile(folder / METRICS, before_writing)
        self._board: Board | None = None
        self._tell, self._news = tell, news

    def __enter__(self) -> "RunLog":
        if self._write:
            drop_after(self.file.path, self._start)
            self._board = Board(self._folder, self._start + 1)
            self._tell()
        self._meter.__enter__()
        self._clock = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self.flush()
        finally:
            self._meter.__exit__(*error)
            if self._board is not None:
                self._board.close()

    def lengthen(self, stop: int) -> None:
        """Set another last step."""
        self._meter.lengthen(stop)

    @property
    def is_due(self) -> bool:
        """Whether as many steps are pending as are to be flushed together."""
        return len(self._pending) >= self._every

    def step(self, record: dict[str, Any]) -> dict[str, Any]:
        """Record a step; the clock is read here. Its values may be tensors on the device until they are flushed.

        Returns
        -------
        dict
            The line.
        """
        now = time.perf_counter()
        rate = self._images / (now - self._clock)
        self._clock = now
        line = {"kind": "step", **record, "images_per_second": rate, "time": time.time()}
        self._pending.append(line)
        return line

    def evaluation(self, record: dict[str, Any]) -> None:
        """Record an evaluation; its time does not count towards a step."""
        self.flush()
        self._append([{"kind": "evaluation", **record, "time": time.time()}])
        self.skip_time()

    def stage(self, record: dict[str, Any]) -> None:
        """Record a check of a stage."""
        self.flush()
        self._append([{"kind": "stage", **record, "time": time.time()}])

    def flush(self) -> None:
        """Write pending lines, which synchronizes the device."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        on_device = [(line, key) for line in pending for key, value in line.items() if torch.is_tensor(value)]
        for (line, key), number in zip(on_device, read([line[key] for line, key in on_device]), strict=True):
            line[key] = number
        for line in pending:
            if "data_wait" in line:  # of a GPU it is known by now: the losses were computed later
                line["data_wait"] = float(line["data_wait"])
        self._append(pending)
        for sentence in self._news(pending) if self._write else ():
            say(f"warning: {sentence}")
        last = pending[-1]
        loss = "labels only" if last["loss"] != last["loss"] else f"loss {last['loss']:.4f}"
        self._meter.update(last["step"], f"epoch {last['epoch']}, {loss}")

    def skip_time(self) -> None:
        """Do not count the time since the last step (a save) as the next one's."""
        self._clock = time.perf_counter()

    def _append(self, records: list[dict[str, Any]]) -> None:
        if self._board is not None:
            for record in self.file.append(records):
                self._board.add(record)
            self._tell()


def evaluation_line(summary: dict[str, Any]) -> str:
    """Return the result of `evaluate.tally.Tally.summary` as one readable line."""
    parts = [f"{name.upper()} {summary[name]:.3f}" for name in ("acc", "nmi", "ari") if name in summary]
    used = summary["clusters"] - summary["empty"]
    parts.append(f"{used} of {summary['clusters']} clusters used, the largest {summary['largest']:.0%}")
    parts.append(f"confidence {summary['confidence']:.2f}")
    if not summary["labelled"]:
        parts.append("no labels")
    return ", ".join(parts)
