"""Which checkpoints are kept, and that none is deleted before another is complete."""

import random
from pathlib import Path

import pytest

from ccscale.checkpoint import choose, find
from ccscale.checkpoint.marker import seal, verify
from ccscale.checkpoint.retention import (
    KeptCheckpoint,
    best,
    is_best,
    list_kept,
    measures_of,
    retain,
    steps_to_keep,
)
from ccscale.errors import InputError


def make(folder: Path, step: int, **measures: float) -> None:
    path = folder / f"step-{step:08d}"
    (path / "deepspeed").mkdir(parents=True)
    (path / "deepspeed/state.pt").write_bytes(b"content")
    seal(path, {"step": step, "world": 1, "evaluation": measures}, {})


def left(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


@pytest.mark.parametrize(
    ("last", "every", "kept"),
    [
        (1, None, {9}),
        (3, None, {7, 8, 9}),
        (20, None, {*range(1, 10)}),
        (1, 3, {3, 6, 9}),
        (2, 4, {4, 8, 9}),
        (1, 100, {9}),
    ],
)
def test_last_and_every(last: int, every: int | None, kept: set[int]) -> None:
    assert steps_to_keep([KeptCheckpoint(step) for step in range(1, 10)], last, every) == kept


def test_every_takes_the_first_step_after_where_there_is_none_at_it() -> None:
    kept = [KeptCheckpoint(step) for step in (90, 180, 270, 360)]
    assert steps_to_keep(kept, 1, 100) == {180, 270, 360}


def test_every_stays_the_same_as_a_run_goes_on() -> None:
    """What is kept once is kept for good: one of every 10 steps, wherever the run was saved."""
    rng = random.Random(0)
    for _ in range(50):
        there: set[int] = set()
        firsts: dict[int, int] = {}
        for step in sorted(rng.sample(range(1, 200), 40)):
            firsts.setdefault(step // 10, step)
            there = steps_to_keep([KeptCheckpoint(s) for s in {*there, step}], 2, 10)
            assert {first for tens, first in firsts.items() if tens} <= there
            assert len(there) <= len(firsts) + 2


def test_the_best_of_each_measure_is_kept(tmp_path: Path) -> None:
    measures = {1: (0.5, 0.9), 2: (0.8, 0.1), 3: (0.8, 0.2), 4: (0.1, 0.3)}
    for step, (information, nmi) in measures.items():
        make(tmp_path, step, information=information, nmi=nmi)
    make(tmp_path, 5)
    kept = list_kept(tmp_path, 5)
    assert (best(kept, "information").step, best(kept, "nmi").step) == (2, 1)
    assert is_best(kept, {"information": 0.81})
    assert is_best(kept, {"information": 0, "nmi": 0.91})
    assert not is_best(kept, {"information": 0.8, "nmi": 0.9})
    retain(tmp_path, 5, last=1, every=None)
    assert left(tmp_path) == [1, 2, 5]


def test_measures_that_are_no_numbers_are_left_out() -> None:
    assert measures_of(None) == {}
    assert measures_of({"information": float("nan"), "nmi": None, "acc": 1.0}) == {}
    assert measures_of({"information": 1, "nmi": 0.5}) == {"information": 1.0, "nmi": 0.5}


def test_a_damaged_one_takes_no_place(tmp_path: Path) -> None:
    """With keep_last 1, step 4 is damaged and later than the one just saved: that one is not deleted for it."""
    for step in (2, 3, 4):
        make(tmp_path, step)
    (tmp_path / "step-00000004/deepspeed/state.pt").write_bytes(b"damaged")
    retain(tmp_path, 3, last=1, every=None, damaged={"step-00000004"})
    assert left(tmp_path) == [3, 4]
    make(tmp_path, 5)
    retain(tmp_path, 5, last=2, every=None, damaged={"step-00000004"})
    assert left(tmp_path) == [3, 5]


def test_one_without_a_marker_goes_when_the_run_has_come_past_it(tmp_path: Path) -> None:
    make(tmp_path, 1)
    (tmp_path / "step-00000002").mkdir()
    retain(tmp_path, 1, last=1, every=None)
    assert left(tmp_path) == [1, 2]
    make(tmp_path, 3)
    retain(tmp_path, 3, last=2, every=None)
    assert left(tmp_path) == [1, 3]


def test_conversions_go_with_their_checkpoints(tmp_path: Path) -> None:
    for step in (1, 2):
        make(tmp_path, step)
        make(tmp_path / "universal", step)
    retain(tmp_path, 2, last=1, every=None)
    assert left(tmp_path / "universal") == [2]
    assert not (tmp_path / "universal/.staging").exists()


def test_what_is_not_read_as_it_was_written_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"content")
    with pytest.raises(OSError, match=r"state\.pt does not read back as it was written"):
        seal(tmp_path, {}, {"state.pt": {"bytes": 7, "sha256": "0" * 64}})
    with pytest.raises(InputError, match=r"has no COMMIT\.json"):
        verify(tmp_path)


def test_a_marker_that_holds_something_else(tmp_path: Path) -> None:
    make(tmp_path / "checkpoints", 1)
    for content in ("[]", "{}", '{"files": 3}', '{"files": {}, "step": "x"}', "\0"):
        (tmp_path / "checkpoints/step-00000001/COMMIT.json").write_text(content)
        with pytest.raises(InputError, match=r"has no complete checkpoint: .*step-00000001"):
            find(tmp_path)
        assert list_kept(tmp_path / "checkpoints", 9) == []


class TestChoice:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        make(tmp_path / "checkpoints", 1, information=0.9, nmi=0.1)
        make(tmp_path / "checkpoints", 2, information=0.5, nmi=0.4)
        make(tmp_path / "checkpoints", 3)
        return tmp_path

    @pytest.mark.parametrize(
        ("which", "step"),
        [("last", 3), ("best", 1), ("best-information", 1), ("best-nmi", 2), ("2", 2), ("00000003", 3)],
    )
    def test_by_name(self, run: Path, which: str, step: int) -> None:
        assert choose(run, which).newest.step == step

    @pytest.mark.parametrize(
        ("which", "words"),
        [
            ("4", "has no checkpoint of step 4; there are: 1, 2, 3"),
            ("newest", "there is no checkpoint 'newest'; choose last, best, "),
            ("-1", "there is no checkpoint '-1'"),
        ],
    )
    def test_that_is_not_there(self, run: Path, which: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            choose(run, which)

    def test_nothing_was_rated(self, tmp_path: Path) -> None:
        make(tmp_path / "checkpoints", 1, information=1.0)
        with pytest.raises(InputError, match=r"was rated by nmi: set evaluate.every"):
            choose(tmp_path, "best-nmi")

    def test_a_damaged_one_is_not_replaced_by_another(self, run: Path) -> None:
        (run / "checkpoints/step-00000001/deepspeed/state.pt").write_bytes(b"damaged")
        with pytest.raises(InputError, match="step-00000001 was changed or damaged"):
            choose(run, "best")
