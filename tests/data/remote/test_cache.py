"""The cache keeps what it is given, never more than its bound, whoever else uses it and however they end."""

import contextlib
import fcntl
import multiprocessing
import os
import random
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from harness.servers import wait_until

from ccscale.data.remote.cache import Cache
from ccscale.errors import InputError

context = multiprocessing.get_context("fork")


def files(folder: Path, suffix: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(suffix)]


def weight(folder: Path) -> int:
    total = 0
    for path in [*files(folder, ".part"), *files(folder, ".piece")]:
        with contextlib.suppress(FileNotFoundError):  # removed or renamed meanwhile
            total += path.stat().st_size
    return total


def test_it_keeps_pages_by_name(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "new" / "cache"), 10_000)
    assert cache.get("url", 0) is None
    cache.put(b"first", "url", 0)
    cache.put(memoryview(b"second"), "url", 1)
    cache.put(b"", "empty")
    assert cache.get("url", 0) == b"first"
    assert Cache(str(tmp_path / "new" / "cache"), 10_000).get("url", 1) == b"second"
    assert cache.get("empty") == b""
    assert cache.get("url", 2) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer", "zeros"])
def test_a_damaged_page_counts_as_missing(tmp_path: Path, damage: str) -> None:
    cache = Cache(str(tmp_path), 10_000)
    cache.put(b"some bytes", "x")
    (path,) = files(tmp_path, ".piece")
    data = path.read_bytes()
    flipped = bytes([data[0] ^ 1]) + data[1:]
    path.write_bytes(
        {
            "cut": data[:-1],
            "flipped": flipped,
            "empty": b"",
            "longer": data + b"x",
            "zeros": bytes(len(data)),
        }[damage]
    )
    assert cache.get("x") is None
    cache.put(b"some bytes", "x")
    assert cache.get("x") == b"some bytes"


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 5 * 1016)
    for name in "abcde":
        cache.put(bytes(1000), name)
        for path in files(tmp_path, ".piece"):  # clocks of file systems are coarse
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    assert cache.get("a") is not None
    cache.put(bytes(1000), "f")
    assert [name for name in "abcdef" if cache.get(name) is not None] == ["a", "c", "d", "e", "f"]
    assert weight(tmp_path) <= 5 * 1016
    cache.put(bytes(6000), "too large")
    assert cache.get("too large") is None
    assert cache.get("a") is not None


def hammer(folder: str, bound: int, seed: int) -> None:
    cache, generator = Cache(folder, bound), random.Random(seed)
    for _ in range(250):
        name = generator.randrange(60)
        data = bytes([name]) * (500 + 37 * name)
        found = cache.get(name)
        assert found in (None, data)
        if found is None:
            cache.put(data, name)


def test_several_processes_never_fill_it_beyond_its_bound(tmp_path: Path) -> None:
    bound = 20_000  # a quarter of all
    processes = [context.Process(target=hammer, args=(str(tmp_path), bound, seed)) for seed in range(5)]
    for process in processes:
        process.start()
    worst = 0
    while any(process.is_alive() for process in processes):
        worst = max(worst, weight(tmp_path))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 5
    # The look at the folder is not one moment: a file may be seen as a part and, renamed, again as a page.
    assert 0 < worst <= bound + 5 * (500 + 37 * 60 + 16)
    assert weight(tmp_path) <= bound
    assert weight(tmp_path) == int((tmp_path / "bytes").read_text())
    assert files(tmp_path, ".part") == []


def die_while_writing(folder: str) -> None:
    cache = Cache(folder, 10_000)
    with cache._begin(4000) as (file, _):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def wait_while_writing(folder: str, go_on: "multiprocessing.synchronize.Event") -> None:
    with Cache(folder, 10_000)._begin(4000):
        go_on.wait(60)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    process = context.Process(target=die_while_writing, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (dead,) = files(tmp_path, ".part")
    go_on = context.Event()
    living = context.Process(target=wait_while_writing, args=(str(tmp_path), go_on))
    living.start()
    wait_until(lambda: len(files(tmp_path, ".part")) == 2)
    cache = Cache(str(tmp_path), 10_000)
    cache.put(bytes(5000), "x")  # there is room only without the dead one
    assert cache.get("x") == bytes(5000)
    assert not dead.exists()
    assert len(files(tmp_path, ".part")) == 1
    go_on.set()
    living.join()
    assert files(tmp_path, ".part") == []


def fill_disk(folder: str) -> None:
    cache = Cache(folder, 100_000)
    cache.put(bytes(100), "before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name in range(3):
        cache.put(bytes(5000), name)
        assert cache.get(name) is None
    assert cache.get("before") == bytes(100)


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = context.Process(target=fill_disk, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"the cache {tmp_path} cannot be written (File too large): going on without it"
    assert files(tmp_path, ".part") == []


def test_room_is_reckoned_by_one_process_at_a_time(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 10_000)
    with open(tmp_path / "bytes") as other:  # as another process holds it
        fcntl.flock(other, fcntl.LOCK_EX)
        putting = threading.Thread(target=cache.put, args=(bytes(100), "x"))
        putting.start()
        putting.join(0.3)
        assert putting.is_alive()
        assert files(tmp_path, ".part") == []
    putting.join()
    assert cache.get("x") == bytes(100)


def test_two_that_write_the_same_piece_count_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, other = Cache(str(tmp_path), 10_000), Cache(str(tmp_path), 10_000)
    begin = cache._begin

    def begin_late(size: int) -> Any:
        other.put(bytes(100), "x")
        return begin(size)

    monkeypatch.setattr(cache, "_begin", begin_late)
    cache.put(bytes(100), "x")
    assert weight(tmp_path) == int((tmp_path / "bytes").read_text()) == 116
    assert files(tmp_path, ".part") == []


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"the cache .*file cannot be used .*data\.cache"):
        Cache(str(tmp_path / "file"), 10_000)


def test_a_lost_account_is_made_again(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 10_000)
    cache.put(bytes(3000), "a")
    (tmp_path / "bytes").write_bytes(b"")
    cache.put(bytes(3000), "b")
    assert int((tmp_path / "bytes").read_text()) == 2 * 3016
