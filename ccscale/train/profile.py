"""A profiler trace of some steps, ``RUN/profile/rank-0.json``, for ui.perfetto.dev.

Each rank writes its own. The parts of a step are labelled: data, views, forward, losses, backward, optimizer.
"""

from pathlib import Path
from types import TracebackType

import torch

FOLDER = "profile"
SKIPPED = 10  # steps that are not traced: the first ones compile, allocate and choose algorithms


class StepProfile:
    """Traces steps of a run; does nothing if no steps are requested.

    Parameters
    ----------
    folder
        The run's.
    steps
        How many to trace, after the first ten; None: none.
    rank
        Of this process, for the file's name.
    """

    def __init__(self, folder: Path, steps: int | None, rank: int) -> None:
        self._path = folder / FOLDER / f"rank-{rank}.json"
        self._profiler: torch.profiler.profile | None = None
        if steps is not None:
            self._profiler = torch.profiler.profile(
                schedule=torch.profiler.schedule(wait=SKIPPED - 1, warmup=1, active=steps, repeat=1),
                on_trace_ready=self._write,
            )

    def __enter__(self) -> "StepProfile":
        if self._profiler is not None:
            self._profiler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profiler is not None:
            self._profiler.stop()

    def step(self) -> None:
        """Record the end of a step."""
        if self._profiler is not None:
            self._profiler.step()

    def _write(self, profiler: torch.profiler.profile) -> None:
        self._path.parent.mkdir(exist_ok=True)
        profiler.export_chrome_trace(str(self._path))
