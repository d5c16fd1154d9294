"""Every reader on a few hundred damaged and hostile files, always the same ones."""

import json

import pytest
from harness.tools import run_tool


@pytest.mark.parametrize(
    ("target", "errors"),
    [
        ("tar", {"InputError", "ShardError"}),
        ("manifest", {"InputError", "ShardError"}),
        ("index", {"InputError", "ShardError"}),
        ("image", {"BadImage"}),
    ],
)
def test_only_the_defined_errors_come_out(target, errors, tmp_path):
    save = tmp_path / "found"
    done = run_tool(
        *("faults/fuzz.py", target, "--seed", 20260, "--examples", 200, "--seconds", 0.001, "--save", save)
    )
    assert done.code == 0, done.out + done.err
    outcome = json.loads(done.out)
    assert (outcome["found"], outcome["seeds"]) == ([], [20260, 20260])
    assert not save.exists()
    counts = outcome["targets"][target]
    del counts["slowest_s"]
    read = counts.pop("read")
    assert set(counts) <= errors
    # Neither all nor none is refused: what lies behind the first checks is reached.
    assert read >= 2
    assert sum(counts.values()) >= 50


def test_a_file_is_fed_again(tmp_path):
    (tmp_path / "file").write_bytes(b"no tar")
    done = run_tool("faults/fuzz.py", "tar", "--replay", tmp_path / "file")
    assert json.loads(done.out)["targets"]["tar"] == {"ShardError": 1} | {
        "slowest_s": pytest.approx(0, abs=60)
    }
