"""What rank 0 does after a stop."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccscale.launch.job import Training


class TestStop:
    """With squeue's part played by a script, and submitit's handler by one that ends as it does."""

    def stop(
        self, cluster: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[bool, int]:
        squeue = tmp_path / "squeue"
        squeue.write_text(f"#!/bin/bash\n[ \"$*\" = '--noheader --format=%T --jobs=7' ] && echo {state}\n")
        squeue.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        requeued = []

        def handler(number: int, frame: object) -> None:
            requeued.append(number)
            sys.exit(-1)

        before = signal.signal(signal.SIGUSR2, handler)
        end = SimpleNamespace(code=1)
        try:
            with pytest.raises(SystemExit):
                Training({})._stop(SimpleNamespace(cluster=cluster, USR_SIG="USR2"), end)  # type: ignore[arg-type]
        finally:
            signal.signal(signal.SIGUSR2, before)
        return requeued == [signal.SIGUSR2], end.code

    def test_a_running_job_is_requeued(self, tmp_path, monkeypatch):
        assert self.stop("slurm", "RUNNING", tmp_path, monkeypatch) == (True, 255)

    @pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", ""])
    def test_a_cancelled_one_is_not(self, state, tmp_path, monkeypatch):
        assert self.stop("slurm", state, tmp_path, monkeypatch) == (False, 75)


def test_the_next_life_runs_the_same():
    again = Training({"seed": 3}).checkpoint()
    assert isinstance(again.function, Training)
    assert (again.function.settings, again.args, again.kwargs) == ({"seed": 3}, (), {})
