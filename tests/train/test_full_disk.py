"""A disk that is full or read-only for a while: the run goes on, says so, keeps what it has, and saves again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import small_settings
from harness.disks import Disk, small_disk
from runs import SAME, difference, steps

from ccscale.checkpoint import find
from ccscale.config.file import parse_config
from ccscale.errors import Fault
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

pytestmark = [pytest.mark.slow]

SIZE = 64 * 2**20  # of the disk: three checkpoints are 20 MB
PATIENCE = 100.0
SAYS = {"full": "No space left on device", "read-only": "Read-only file system"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        yield disk


def settings_of(shards: Path, run: Path, **changes: Any) -> dict[str, Any]:
    return (
        small_settings(shards, run, train__epochs=1000, train__save_every=2, train__max_steps=5000) | changes
    )


def until(condition: Callable[[], Any], process: subprocess.Popen[bytes], said: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < end, said.read_text()
        time.sleep(0.02)


def newest(run: Path) -> int:
    """Step of the newest checkpoint by name; it may be being deleted or made, so it is only looked at."""
    return max((int(path.name[5:]) for path in run.glob("checkpoints/step-*")), default=0)


@pytest.mark.parametrize("trouble", SAYS)
def test_the_run_goes_on_and_saves_again_when_it_can(
    disk: Disk, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], trouble: str
) -> None:
    run, said = disk.place / "run", tmp_path / "said"
    settings = settings_of(shards, run)
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    with open(said, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ccscale", "train", str(tmp_path / "config.yaml")], stderr=file
        )
    try:

        def warnings() -> list[str]:
            return re.findall(r"warning: the checkpoint of step .*could not be written.*", said.read_text())

        def is_told() -> bool:
            if trouble == "full":
                disk.fill()  # what a save that failed gave back
            return len(warnings()) >= 3 and bool(
                re.search(r"warning: .*metrics\.jsonl cannot be written", said.read_text())
            )

        until(lambda: newest(run) >= 4, process, said)
        if trouble == "full":
            until(is_told, process, said)
            kept = find(run).newest
            disk.make_room()
        else:
            with disk.read_only(run):
                until(is_told, process, said)
                kept = find(run).newest
        assert kept is not None
        assert kept.step >= 4
        assert all(SAYS[trouble] in warning and "the run goes on" in warning for warning in warnings())
        until(lambda: newest(run) > kept.step + 4, process, said)  # two more at least
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 75, said.read_text()
    finally:
        process.kill()
        process.wait()
    assert "metrics.jsonl can be written again" in said.read_text()
    done = find(run).newest
    assert done is not None
    assert [record["step"] for record in steps(run)] == list(range(1, done.step + 1))

    last = done.step + 3
    assert train_run(
        parse_config(settings_of(shards, run, train=settings["train"] | {"max_steps": last}))
    ).finished
    assert f"going on from step {done.step} of {last}" in capfd.readouterr().err
    whole = settings_of(shards, tmp_path / "unbroken", train=settings["train"] | {"max_steps": last})
    whole["train"] |= {"save_every": 1000}
    assert train_run(parse_config(whole)).finished
    assert difference(steps(run), steps(tmp_path / "unbroken")) == (True, SAME)


def test_a_run_whose_last_save_fails_ends_as_a_fault_and_keeps_what_it_has(
    disk: Disk, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = disk.place / "run"
    settings = small_settings(shards, run, train__max_steps=9, train__save_every=3)
    take, taken = Stepper.take, []

    def take_and_fill(stepper: Stepper, *arguments: Any) -> Any:
        taken.append(None)
        if len(taken) == 9:
            disk.fill()
        return take(stepper, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "take", take_and_fill)
        with pytest.raises(
            Fault, match=r"checkpoint of step 9 could not be written.*No space left on device"
        ):
            train_run(parse_config(settings))
    kept = find(run).newest
    assert kept is not None
    assert kept.step in (3, 6)  # that of step 6 may have been under way when the disk was full
    before = os.listdir(run / "checkpoints")
    disk.make_room()
    assert os.listdir(run / "checkpoints") == before
    assert train_run(parse_config(settings)).finished
    assert train_run(parse_config(settings | {"run": str(tmp_path / "unbroken")})).finished
    assert difference(steps(run), steps(tmp_path / "unbroken")) == (True, SAME)
