"""One writer at a time in the folder of a run or a store, on this machine or another, also over NFS.

The writer creates a file ``.lock`` exclusively (``O_EXCL``). It names the process and has a counter that a thread
increments every few seconds. Another process that finds it checks whether the writer is alive: at once if it runs
on the same system; otherwise it waits for the counter to change, by its own clock, since clocks of two machines
are never compared. The lock of a dead process is ignored, so a kill never leaves a folder locked.

To remove a lock, a process must first create the lock of its removal (``.lock-TOKEN``, of the same kind), and
then removes it only if it is still there: so two processes that found the same dead lock cannot remove each
other's new one. A writer that was suspended for so long that its lock was taken over finds the other one's lock,
and stops writing.
"""

import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path

from ccscale.checkpoint.lock_holder import HELD_HERE, LockHolder
from ccscale.errors import Fault, InputError
from ccscale.process_name import own_name
from ccscale.progress import say

NAME = ".lock"
COUNT_SECONDS = 5.0
WATCH_SECONDS = 60.0
"""How long the count of a process of another system may stand still: a server of files that restarts takes less."""
POLL_SECONDS = 0.5


class LockLost(Fault):
    """Another process has taken over the folder: nothing more may be written."""


class FolderLock(contextlib.AbstractContextManager["FolderLock"]):
    """A folder's lock, of this process once it has taken it; a context that gives it back.

    Within a thread it may be taken again, as by an evaluation that a report needs first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = _Lock(folder / NAME)
        self._outer: FolderLock | None = None
        self._held = False

    def __exit__(self, *_: object) -> None:
        self.release()

    def covers(self, path: Path) -> bool:
        """Return whether a path lies in the folder."""
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.folder))

    def create(self) -> None:
        """Create the folder unless it exists, and take its lock.

        Raises
        ------
        InputError
            As `take`, and if the folder cannot be created.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot create the folder {self.folder}: {error.strerror}") from None
        self.take()

    def take(self) -> None:
        """Take the lock; a dead holder is ignored, an unknown one is watched for `WATCH_SECONDS`.

        Raises
        ------
        InputError
            If another process writes there, or the folder cannot be written.
        """
        if self._held:
            return
        key = os.path.realpath(self.folder)
        self._outer = _mine.held.get(key)
        if self._outer is not None:
            return
        try:
            self._lock.take()
        except OSError as error:
            raise InputError(f"the folder {self.folder} cannot be written: {error.strerror}") from None
        self._held = True
        _mine.held[key] = self
        self._lock.count_on()

    def check(self) -> None:
        """Check that this process still holds the lock, before anything is changed.

        Raises
        ------
        LockLost
            If it was taken over. A lock that was never taken is nobody's, and no reason to raise.
        """
        if self._outer is not None:
            self._outer.check()
        elif self._held:
            other = self._lock.other()
            if other is not None:
                raise LockLost(
                    f"{self.folder} was taken over by {other}, as nothing was heard of this process for "
                    f"{WATCH_SECONDS:.0f} s: it was stopped, or cut off from its files; it ends, and writes no more"
                )

    def release(self) -> None:
        """Give the lock back, if it is held here."""
        if self._held:
            self._held = False
            _mine.held.pop(os.path.realpath(self.folder), None)
            self._lock.release()


class _Lock:
    """A file that one process at a time can make."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = secrets.token_hex(16)
        self._name = json.dumps({"token": self._token, **own_name()}).encode()
        self._count = 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Make the file, whatever dead ones are there.

        Raises
        ------
        InputError
            If it is another process's.
        """
        while not self._make():
            found = LockHolder.read(self._path)
            if found is None:
                continue
            alive = found.is_alive()
            if alive is None:
                alive = self._watch(found)
            if alive is None:
                continue
            if alive:
                raise InputError(
                    f"{self._path.parent} is in use by {found}: wait until it ends, or stop it; only one "
                    "process at a time may write to a folder"
                )
            if self._remove(found.token) and self._path.name == NAME:
                say(f"ignored the lock of {found}, which has ended, in {self._path.parent}")

    def count_on(self) -> None:
        """Begin to show that this process is at work."""
        self._thread = threading.Thread(target=self._run, name="lock", daemon=True)
        self._thread.start()

    def other(self) -> LockHolder | None:
        """Return the lock of another holder.

        One that was only removed, by hand, is made again: if that succeeds, nobody has come in between.
        """
        found = LockHolder.read(self._path)
        while found is None:
            if self._make():
                return None
            found = LockHolder.read(self._path)
        return None if found.token == self._token else found

    def release(self) -> None:
        """Remove the file, if it is this one still."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(COUNT_SECONDS)
        with contextlib.suppress(OSError, InputError):  # then it is found dead
            self._remove(self._token)
        HELD_HERE.discard(self._token)

    def _make(self) -> bool:
        HELD_HERE.add(self._token)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, self._content())
            os.fsync(descriptor)
        except OSError:
            os.unlink(self._path)
            raise
        finally:
            os.close(descriptor)
        return True

    def _content(self) -> bytes:
        return self._name + b"\n%020d\n" % self._count

    def _watch(self, found: LockHolder) -> bool | None:
        """Return whether the holder's count increases; None if the holder has changed or gone."""
        if self._path.name == NAME:
            say(
                f"{self._path.parent} is locked by {found}: checking for {WATCH_SECONDS:.0f} s whether it "
                "is alive"
            )
        end = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            now = LockHolder.read(self._path)
            if now is None or now.token != found.token:
                return None
            if now.raw != found.raw:
                return True
        return False

    def _remove(self, token: str) -> bool:
        """Remove the lock with a token; return whether it existed."""
        removal = _Lock(self._path.with_name(f"{NAME}-{token}"))
        removal.take()
        try:
            found = LockHolder.read(self._path)
            if found is None or found.token != token:
                return False
            self._path.unlink()
            return True
        finally:
            removal._path.unlink(missing_ok=True)
            HELD_HERE.discard(removal._token)

    def _run(self) -> None:
        while not self._end.wait(COUNT_SECONDS):
            with contextlib.suppress(OSError):  # the disk may be full, or away: the next time
                if self.other() is None:
                    self._count += 1
                    with open(self._path, "r+b", buffering=0) as file:
                        file.write(self._content())


def is_lock(name: str) -> bool:
    """Return whether a file of a run's folder is a lock, as a start that was killed may leave."""
    return name == NAME or name.startswith(f"{NAME}-")


class _OfThread(threading.local):
    """The locks that a thread holds, by folder."""

    def __init__(self) -> None:
        self.held: dict[str, FolderLock] = {}


_mine = _OfThread()
