"""A small disk that a test can fill, and make read-only, under a run that is at work. It needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A tmpfs of its own.

    Parameters
    ----------
    place
        An empty folder, where it is mounted.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with open(self._filler, "ab", buffering=0) as file:
            block = bytes(65536)
            while True:
                try:
                    file.write(block[: max(4096, min(len(block), self.free))])
                except OSError:
                    break

    def make_room(self) -> None:
        """Give free what `fill` took."""
        self._filler.unlink()

    @property
    def free(self) -> int:
        """Bytes that are free."""
        facts = os.statvfs(self.place)
        return facts.f_bavail * facts.f_frsize

    @contextmanager
    def read_only(self, folder: Path) -> Iterator[None]:
        """Let nobody write below a folder by its path; what is open stays open, so that a run cannot hinder it."""
        _mount("--bind", str(folder), str(folder))
        try:
            _mount("-o", "remount,bind,ro", str(folder))
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Disk]:
    """Mount a disk of `size` bytes at a new folder, or skip the test where that may not be done."""
    if os.geteuid() != 0:
        pytest.skip("not root: a test of full and read-only disks mounts one")
    place.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "ccscale-test", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        pytest.skip(
            f"root may not mount here, and a test of full and read-only disks mounts one: {said.strip()}"
        )
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
