"""Loader processes that are killed, wherever: a sentence, and nothing in the middle of other work."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import small_settings
from torch.utils.data import DataLoader, IterableDataset

from ccscale.checkpoint import find
from ccscale.cli.main import main
from ccscale.config.file import parse_config
from ccscale.data import whole_images, worker_watch
from ccscale.data.shards.manifest import Manifest
from ccscale.data.whole_images import whole_batches
from ccscale.data.worker_watch import watch_workers
from ccscale.errors import Fault
from ccscale.train.step import Stepper
from ccscale.train.train import train_run

CAUSE = "as a system does that is out of memory: give it more memory, or lower data.workers"


class Numbers(IterableDataset[int]):
    """Counts to ten, and does something on the way."""

    def __init__(self, act: Any, before: int) -> None:
        self.act, self.before = act, before

    def __iter__(self) -> Iterator[int]:
        for number in range(10):
            if number == self.before:
                self.act()
            yield number


def loader(act: Any = lambda: None, workers: int = 1, before: int = 5) -> DataLoader[int]:
    return DataLoader(
        Numbers(act, before),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )


def out_of_memory() -> None:
    raise MemoryError


DEATHS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), rf"one of 1\) was killed by SIGKILL, {CAUSE}"),
    "no shared memory": (
        lambda: os.kill(os.getpid(), signal.SIGBUS),
        r"SIGBUS, as where the shared memory \(",
    ),
    "crashed": (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"SIGSEGV, which is a fault of a library"),
    "ended": (lambda: os._exit(3), r"a loader worker \(process \d+\) exited with code 3$"),
    "memory": (out_of_memory, "^out of memory in a loader worker: give it more memory, or lower"),
}


@pytest.mark.parametrize(("act", "told"), DEATHS.values(), ids=DEATHS)
def test_a_worker_that_ends(act: Any, told: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Fault, match=told):
        list(watch_workers(loader(act)))
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_that_come_to_their_end(workers: int) -> None:
    assert sorted(watch_workers(loader(workers=workers))) == sorted([*range(10)] * max(workers, 1))


def test_what_a_worker_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        list(watch_workers(loader(fail)))


def test_the_end_of_a_process_interrupts_nothing() -> None:
    """PyTorch's handler would raise in the main thread, whatever it does."""
    before = signal.getsignal(signal.SIGCHLD)
    had, others = multiprocessing.get_context("fork").Event(), multiprocessing.active_children()

    def die() -> None:
        had.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    items = watch_workers(loader(die, before=1))  # it reads two ahead
    assert next(items) == 0
    had.set()
    assert signal.getsignal(signal.SIGCHLD) == before
    workers = [worker for worker in multiprocessing.active_children() if worker not in others]
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.01)
    with pytest.raises(Fault):
        list(items)


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()], ids=repr
)
def test_a_connection_that_breaks_is_the_first_sign_of_it(error: Exception) -> None:
    """A tensor is handed over by the worker itself, which may be killed just then, before its end is seen."""

    def die() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    coming: Future[Any] = Future()
    coming.set_exception(error)
    with pytest.raises(Fault, match=f"SIGKILL, {CAUSE}"):
        worker_watch._wait(coming, [process])
    lives = SimpleNamespace(exitcode=None, is_alive=lambda: True)
    with pytest.raises(type(error)):  # it has another reason
        worker_watch._wait(coming, [lives])  # type: ignore[list-item]


def test_no_memory_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(
        Fault, match=r"^cannot start 2 loader workers \(Cannot allocate memory\): give it more"
    ):
        next(watch_workers(loader(workers=2)))


def workers_of_this_process() -> list[int]:
    here = str(os.getpid())
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == here and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader's workers are killed once the first batch of whole images is there."""
    load = whole_images.load

    def load_and_kill(*arguments: Any, **options: Any) -> Iterator[Any]:
        before = set(workers_of_this_process())
        for item in load(*arguments, **options):
            yield item
            for process in set(workers_of_this_process()) - before:
                os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(whole_images, "load", load_and_kill)


@pytest.mark.usefixtures("killing")
def test_reading_whole_images(manifest: Manifest) -> None:
    with pytest.raises(Fault, match=f"SIGKILL, {CAUSE}"):
        list(whole_batches(manifest, ["train"], 16, 4, workers=2))


@pytest.mark.usefixtures("killing")
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_evaluate_and_predict_end_with_a_sentence(
    verb: str, run: Path, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "ccscale.evaluate.assign.whole_batches",
        lambda manifest, splits, size, batch, **options: whole_batches(manifest, splits, size, 8, **options),
    )
    arguments = {"evaluate": [], "predict": ["--out", str(tmp_path / "table.csv")]}[verb]
    assert (
        main([verb, str(run), "--shards", str(shards), "--workers", "2", "--device", "cpu", *arguments]) == 1
    )
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert f"SIGKILL, {CAUSE} (--workers of evaluate, predict and report)" in said.splitlines()[-1]


def test_a_run_is_saved_first(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, before = Stepper.take, set(workers_of_this_process())

    def take_and_kill(self: Stepper, batch: Any, *by: Any) -> Any:
        if batch.step == 3:
            (victim, *_) = set(workers_of_this_process()) - before
            os.kill(victim, signal.SIGKILL)
            time.sleep(0.1)  # the step goes on, whatever becomes of the signal of its end
        return take(self, batch, *by)

    monkeypatch.setattr(Stepper, "take", take_and_kill)
    settings = small_settings(shards, tmp_path / "run", data__workers=2, train__epochs=1000)
    with pytest.raises(
        Fault, match=rf"SIGKILL, {CAUSE}.*; the run is saved at step \d+: run the same command"
    ):
        train_run(parse_config(settings))
    saved = find(tmp_path / "run").newest
    assert saved is not None
    assert 4 <= saved.step < 20
