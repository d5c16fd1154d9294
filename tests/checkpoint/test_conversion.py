"""A conversion for another number of ranks is made once, and made again if it was cut off or damaged."""

from pathlib import Path

import pytest

from ccscale.checkpoint import Checkpoint, conversion, make_universal
from ccscale.checkpoint.marker import seal
from ccscale.errors import Fault


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    path = tmp_path / "run/checkpoints/step-00000004"
    (path / "deepspeed").mkdir(parents=True)
    (path / "deepspeed/state.pt").write_bytes(b"content")
    seal(path, {"step": 4, "world": 2}, {})
    return Checkpoint(path, 4, 2, 1)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Convert by copying; the list grows with each conversion."""
    made: list[Path] = []

    def convert(source: Path, out: Path, *_: object) -> None:
        out.mkdir()
        (out / "zero.pt").write_bytes((source / "state.pt").read_bytes())
        made.append(out)

    monkeypatch.setattr(conversion, "convert", convert)
    return made


def test_is_made_once(saved: Checkpoint, conversions: list[Path]) -> None:
    first, again = make_universal(saved, ()), make_universal(saved, ())
    assert first == again == saved.path.parent / "universal/step-00000004"
    assert (first / "deepspeed/zero.pt").read_bytes() == b"content"
    assert len(conversions) == 1
    assert [path.name for path in first.parent.iterdir()] == [saved.path.name]


def test_that_was_killed_is_made_again(
    saved: Checkpoint, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: Path, out: Path, *_: object) -> None:
        out.mkdir()
        (out / "half.pt").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert", killed)
        with pytest.raises(KeyboardInterrupt):
            make_universal(saved, ())
    assert not (saved.path.parent / "universal/step-00000004").exists()
    made = make_universal(saved, ())
    assert sorted(path.name for path in (made / "deepspeed").iterdir()) == ["zero.pt"]


@pytest.mark.parametrize("damage", ["content", "marker", "mode"])
def test_that_cannot_be_used_is_made_again(saved: Checkpoint, conversions: list[Path], damage: str) -> None:
    made = make_universal(saved, ())
    if damage == "content":
        (made / "deepspeed/zero.pt").write_bytes(b"damaged")
    elif damage == "marker":
        (made / "COMMIT.json").unlink()
    else:
        (made / "deepspeed/zero.pt").chmod(0o666)
    assert make_universal(saved, ()) == made
    assert len(conversions) == 2
    assert (made / "deepspeed/zero.pt").read_bytes() == b"content"


def test_without_room(saved: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, out: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "convert", full)
    with pytest.raises(
        Fault, match=r"step-00000004 cannot be converted .* free some space .*, or start 2 ranks"
    ):
        make_universal(saved, ())
