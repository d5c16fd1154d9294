"""Pickles are loaded from the run's own folder alone, and only if nobody else can have written them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ccscale.checkpoint import find
from ccscale.checkpoint.marker import seal
from ccscale.errors import InputError

FILE = "deepspeed/mp_rank_00_model_states.pt"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two checkpoints."""
    for step in (1, 2):
        folder = tmp_path / f"run/checkpoints/step-{step:08d}"
        (folder / FILE).parent.mkdir(parents=True)
        (folder / FILE).write_bytes(b"content")
        seal(folder, {"step": step, "world": 1}, {})
    return tmp_path / "run"


def of_root(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(path, 12345, 12345)


def link_out(path: Path) -> None:
    outside = path.parents[4] / "outside"
    shutil.move(path, outside)
    path.symlink_to(outside)


def lead_folder_out(path: Path) -> None:
    outside = path.parents[4] / "outside"
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)


DOUBTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "everybody can write": (
        lambda path: path.chmod(0o666),
        f"other users can write step-00000002/{FILE} (mode 666)",
    ),
    "its group can write": (lambda path: path.chmod(0o664), f"step-00000002/{FILE} (mode 664)"),
    "its folder can be written": (
        lambda path: path.parent.chmod(0o775),
        "step-00000002/deepspeed (mode 775)",
    ),
    "another user's": (of_root, f"step-00000002/{FILE} (belongs to user 12345)"),
    "a link out": (link_out, f"step-00000002/{FILE} is a link out of the run's folder, to "),
    "a folder's link out": (
        lead_folder_out,
        "step-00000002/deepspeed is a link out of the run's folder, to ",
    ),
    "a link to nowhere": (
        lambda path: (path.parent / "more").symlink_to("nothing"),
        "step-00000002/deepspeed/more cannot be checked",
    ),
    "a strange file": (
        lambda path: (path.parent / "zero_pp_rank_0.pt").write_bytes(b"code"),
        "step-00000002 contains the file deepspeed/zero_pp_rank_0.pt, which its COMMIT.json does not list",
    ),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_one_that_is_not_trusted_is_passed_over_by_name(run: Path, doubt: str) -> None:
    act, words = DOUBTS[doubt]
    act(run / "checkpoints/step-00000002" / FILE)
    found = find(run, pickles=True)
    assert found.newest is not None
    assert found.newest.step == 1
    assert found.damaged == ("step-00000002",)
    (reason,) = found.passed_over
    assert words in reason


def test_what_loads_no_pickles_asks_for_less(run: Path) -> None:
    """Somebody else's run can be evaluated: that reads safetensors."""
    (run / "checkpoints/step-00000002" / FILE).chmod(0o666)
    assert find(run).newest.step == 2


def test_a_link_within_the_run_and_a_linked_run(run: Path) -> None:
    path = run / "checkpoints/step-00000002" / FILE
    shutil.move(path, run / "moved")
    path.symlink_to(run / "moved")
    linked = run.with_name("linked")
    linked.symlink_to(run)
    assert find(linked, pickles=True).newest.step == 2


def test_checkpoints_that_are_kept_elsewhere(run: Path) -> None:
    shutil.move(run / "checkpoints", run.with_name("elsewhere"))
    (run / "checkpoints").symlink_to(run.with_name("elsewhere"))
    with pytest.raises(
        InputError, match=r"checkpoints is a link out of the run's folder, to .*; checkpoints must"
    ):
        find(run, pickles=True)


def test_what_is_sealed_can_be_trusted_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "checkpoints/step-00000007"
        (folder / "deepspeed").mkdir(parents=True)
        (folder / FILE).write_bytes(b"content")
        seal(folder, {"step": 7, "world": 1}, {})
    finally:
        os.umask(before)
    assert find(tmp_path, pickles=True).newest.step == 7
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*")} <= {"0o644", "0o755"}
