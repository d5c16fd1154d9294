"""Writes a run's TensorBoard file; if that fails, the run continues without it."""

import threading
from pathlib import Path

from ccscale.progress import say
from ccscale.train.trackers.tracker import Line, figures

FOLDER = "tensorboard"


class Board:
    """Writes the figures of steps and evaluations.

    Parameters
    ----------
    folder
        The run's.
    step
        The first step to write: existing entries from it on are discarded.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second, which rank 0 alone needs to spend

        self._writer: SummaryWriter | None = None
        self._thread_hook = threading.excepthook
        threading.excepthook = self._tell_thread
        try:
            self._writer = SummaryWriter(str(folder / FOLDER), purge_step=step)
        except OSError as error:
            self._leave(error)

    def add(self, line: Line) -> None:
        """Add the figures of a line of the log."""
        for name, value in figures(line).items():
            if self._writer is not None:
                try:
                    self._writer.add_scalar(name, value, line["step"])
                except Exception as error:  # of any kind: its thread's failure is raised here
                    self._leave(error)

    def close(self) -> None:
        """Write pending entries."""
        threading.excepthook = self._thread_hook
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:
                self._leave(error)

    def _tell_thread(self, failure: threading.ExceptHookArgs) -> None:
        """Leave out TensorBoard's thread, which prints its end: it is told when the next number is handed to it."""
        if not type(failure.thread).__module__.startswith("tensorboard"):
            self._thread_hook(failure)

    def _leave(self, error: Exception) -> None:
        say(f"warning: cannot write TensorBoard's file ({error}); continuing without it until the next start")
        self._writer = None
