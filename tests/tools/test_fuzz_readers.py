"""A few seconds of `tools/fuzz.py` on each reader, always with the same files; and that it sees what it should."""

import json
import os
import socket
import subprocess

import fuzz
import pytest

from ccscale.errors import BadImage, InputError


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_only_the_defined_errors_come_out(target, tmp_path):
    fuzzer = fuzz.Fuzzer(target, tmp_path)
    fuzzer.run(number=20260, examples=200)
    errors = {"BadImage"} if target == "image" else {"InputError", "ShardError"}
    assert set(fuzzer.counts) <= errors | {"read"}
    # Neither all nor none is refused: what lies behind the first checks is reached.
    assert fuzzer.counts["read"] >= 2
    assert sum(fuzzer.counts.values()) - fuzzer.counts["read"] >= 50


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_files_that_it_begins_with_are_valid(target, tmp_path):
    fuzzer = fuzz.Fuzzer(target, tmp_path)
    seeds = fuzz.TARGETS[target][1]()
    if target == "manifest":
        seeds = seeds[:1]
    for data in seeds:
        fuzzer.feed(data)
    assert fuzzer.counts["read"] == len(seeds)


def connect():
    with socket.socket() as end:
        end.connect(("127.0.0.1", 9))


HARM = {
    "write": lambda folder: (folder / "x").write_text("x"),
    "append": lambda folder: open(folder / "old", "a").close(),
    "os.open": lambda folder: os.open(folder / "x", os.O_WRONLY | os.O_CREAT),
    "remove": lambda folder: (folder / "old").unlink(),
    "rename": lambda folder: (folder / "old").rename(folder / "x"),
    "mkdir": lambda folder: (folder / "x").mkdir(),
    "link": lambda folder: (folder / "x").symlink_to("old"),
    "process": lambda folder: subprocess.run(["touch", folder / "x"], check=True),
    "shell": lambda folder: os.system(f"touch {folder / 'x'}"),
    "connect": lambda folder: connect(),
}


@pytest.mark.parametrize("name", HARM)
def test_what_reading_has_no_business_with_is_stopped(name, tmp_path, monkeypatch):
    (tmp_path / "old").write_text("old")
    monkeypatch.setattr(fuzz.guard, "armed", True)
    with pytest.raises(fuzz.Forbidden), fuzz.guard.watching():
        HARM[name](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    with fuzz.guard.watching():
        assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda data: (_ for _ in ()).throw(KeyError("x")), KeyError),
        (lambda data: (_ for _ in ()).throw(InputError("two\nlines")), AssertionError),
        (lambda data: bytearray(os.urandom(1)) * 2 * fuzz.MEMORY, AssertionError),
        (lambda data: (_ for _ in ()).throw(BadImage("fine")), None),
    ],
)
def test_other_errors_and_vast_memory_are_found(harm, found, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MEMORY", 2**28)
    fuzzer = fuzz.Fuzzer("tar", tmp_path)
    fuzzer.read = lambda data, folder: harm(data)
    assert (
        len(bytearray(os.urandom(1)) * 4 * fuzz.MEMORY) == 4 * fuzz.MEMORY
    )  # which was held before hides nothing
    if found is None:
        fuzzer.feed(b"")
    else:
        with pytest.raises(found):
            fuzzer.feed(b"")


def test_the_command_counts_and_replays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "ROUND", 60)
    save = tmp_path / "found"

    def call(*arguments):
        code = fuzz.main([str(argument) for argument in arguments])
        return code, json.loads(capsys.readouterr().out)

    code, outcome = call("manifest", "--seconds", "0.2", "--seed", "7", "--save", save)
    assert code == 0
    assert outcome["found"] == []
    assert outcome["seeds"][0] == 7
    assert outcome["targets"]["manifest"]["InputError"] > 20
    assert not save.exists()
    (tmp_path / "file").write_bytes(b"no tar")
    code, replayed = call("tar", "--replay", tmp_path / "file")
    assert replayed["targets"]["tar"]["ShardError"] == 1


def test_what_it_finds_is_saved(tmp_path, monkeypatch, capsys):
    def read(data, folder):
        if 3 < len(data) < 2000:
            raise KeyError(len(data))

    monkeypatch.setitem(fuzz.TARGETS, "tar", (*fuzz.TARGETS["tar"][:2], read))
    assert fuzz.main(["tar", "--seconds", "0.01", "--seed", "7", "--save", str(tmp_path)]) == 1
    (found,) = json.loads(capsys.readouterr().out)["found"]
    assert len((tmp_path / f"{found}.bin").read_bytes()) == 4  # as small as it can be
    assert "KeyError: 4" in (tmp_path / f"{found}.txt").read_text()
