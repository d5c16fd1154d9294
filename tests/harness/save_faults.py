"""Faults at the points of a save: forks that train a run from a checkpoint, and meet a fault on the way.

A point is a call that changes the disk below ``checkpoints/``: the opening of a file for writing, a piece written
to it, a flush (fsync), a renaming, a removal, a new folder. At a chosen point the process dies at once, as in a
power cut (of a piece that is being written, half is on the disk), or the call fails with an error of the operating
system.

`serve_training` trains up to a step, the whole command; `serve_saves` saves alone, after one step from a
run's newest checkpoint. They take orders, {"run": folder, "stop": steps, "at": a point's number or None,
"errno": a number or None}, and answer {"code": exit code, "points": [...], "said": standard error}. Every
order is carried out in a fork, of a process that has imported everything and trained nothing, or is about to
save: a second instead of ten, or a moment.
"""

import json
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lives import take_environment

from ccscale.checkpoint import rank_files, saver
from ccscale.checkpoint.lock import FolderLock
from ccscale.cli.main import main
from ccscale.config.file import load_config
from ccscale.device import pick_device
from ccscale.errors import Fault
from ccscale.preempt import StopRequest
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.heartbeat import Heartbeat
from ccscale.train.loop import Trainer
from ccscale.train.setup import set_up

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"}
KILLED, BROKEN = 9, 99


class Faults:
    """Counts the points of this process, and makes a fault at one of them."""

    def __init__(self, folder: Path, at: int | None, errno: int | None) -> None:
        self.folder, self.at, self.errno = str(folder), at, errno
        self.points: list[str] = []
        self._lock = threading.Lock()
        self._descriptors: dict[int, str] = {}

    def install(self) -> None:
        """Watch this process from now on."""
        sys.addaudithook(self._audit)
        fsync, write = os.fsync, rank_files.HashedFile.write

        def watched_fsync(descriptor: int) -> None:
            self.pass_point("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def watched_write(file: Any, data: Any) -> int:
            def half() -> None:
                file._file.write(bytes(data)[: len(bytes(data)) // 2])
                file._file.flush()

            try:
                self.pass_point("write", file._file.name, half)
            except OSError as error:
                file.failure = file.failure or error
            return write(file, data)

        os.fsync = watched_fsync
        rank_files.HashedFile.write = watched_write  # type: ignore[method-assign]

    def pass_point(self, kind: str, path: str, dying: Callable[[], None] = lambda: None) -> None:
        """Note a point; at the chosen one, make the fault."""
        if not path.startswith(self.folder):
            return
        with self._lock:
            number = len(self.points)
            self.points.append(f"{kind} {path.removeprefix(self.folder)}")
        if number != self.at:
            return
        if self.errno is not None:
            raise OSError(self.errno, os.strerror(self.errno), path)
        dying()
        os._exit(KILLED)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | Path) and flags & (os.O_WRONLY | os.O_RDWR):
                self.pass_point("open", str(path))
        elif event in CHANGES:
            path = os.fspath(arguments[0]) if not isinstance(arguments[0], int) else ""
            folder = arguments[1] if event in ("os.remove", "os.rmdir") else -1
            if isinstance(folder, int) and folder >= 0:  # shutil.rmtree works in open folders
                path = f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}"
            self.pass_point(event, str(path))


def carry_out(act: Callable[[dict[str, Any]], int], order: dict[str, Any], report: Path) -> None:
    """Carry out an order in this process, and end it."""
    faults = Faults(Path(order["run"]) / "checkpoints", order["at"], order["errno"])
    faults.install()
    try:
        code = act(order)
    except BaseException:  # or the fork would go on with its parent's work
        traceback.print_exc()
        os._exit(BROKEN)
    report.write_text(json.dumps(faults.points))
    sys.stderr.flush()
    os._exit(code)


def serve(act: Callable[[dict[str, Any]], int], orders: Connection) -> None:
    """Carry out orders, each in a fork, until there are no more."""
    while True:
        try:
            order = orders.recv()
        except EOFError:
            return
        with tempfile.TemporaryDirectory() as place:
            points, said = Path(place) / "points", Path(place) / "said"
            child = os.fork()
            if child == 0:
                os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
                os.dup2(2, 1)
                carry_out(act, order, points)
            _, status = os.waitpid(child, 0)
            answer = {
                "code": os.waitstatus_to_exitcode(status),
                "points": json.loads(points.read_text()) if points.exists() else [],
                "said": said.read_text(),
            }
        orders.send(answer)


def serve_training(orders: Connection, environment: dict[str, str], config: str) -> None:
    """Train, as the command does."""
    become(environment)
    changes = ("run={run}", "train.max_steps={stop}")
    serve(lambda order: main(["train", config, *(change.format_map(order) for change in changes)]), orders)


def serve_saves(orders: Connection, environment: dict[str, str], config: str, run: str) -> None:
    """Take a step from the newest checkpoint of `run`; save and rate that state in the runs that are named."""
    become(environment)
    settings = load_config(config, [f"run={run}"])
    device = pick_device("cpu")
    with process_group(RankEnvironment(), device):
        setup = set_up(settings, RankEnvironment(), device, FolderLock(settings.run_folder))
        trainer = Trainer(setup, Heartbeat(), StopRequest())
        trainer.feed.fetch_first()
        trainer.stepper.take(trainer.feed.batch, settings.phases[0].losses)
        trainer.step += 1

        # In a fork the threads of the process group are gone: what needs it is done here.
        snapshot = saver.take_snapshot(setup.engine, {"step": trainer.step, "bad": []})
        saver.take_snapshot = lambda *_: snapshot

        def save(order: dict[str, Any]) -> int:
            trainer.saver.config = settings.model_copy(update={"run": order["run"]})
            try:
                trainer.save(wait=True)
            except Fault as fault:
                print(f"error: {fault}", file=sys.stderr)
                return 1
            trainer.saver.rate(trainer.step, {"information": 1.0, "nmi": 0.5})
            return 0

        serve(save, orders)


def become(environment: dict[str, str]) -> None:
    """Go on as a process of its own, which a copy is not by itself."""
    take_environment(environment)
    os.umask(0o002)  # as many clusters have it: files that the group can write
