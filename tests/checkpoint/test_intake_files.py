"""What a run has taken in is in its folder before it is used, whole or not at all."""

import json

import pytest

from ccscale import atomic
from ccscale.checkpoint.intake_files import FOLDER, LOOKED, KeptIntakes, read_intakes
from ccscale.data.shards.intakes import Intake, ListedShard
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import InputError


def source(name: str, features: str | None = None) -> ListedShard:
    return ListedShard(
        Shard(f"{name}.tar", 10, 10_000, name.encode().hex().ljust(64, "0"), "train"), features
    )


@pytest.fixture
def kept(tmp_path) -> KeptIntakes:
    """Two intakes, and a look after them."""
    begun = KeptIntakes.begin([source("a"), source("b", "f")], "digest").kept(tmp_path)
    return begun.with_(Intake(8, (source("c"),), ("a.tar",))).kept(tmp_path).looked(12).kept(tmp_path)


def test_it_is_read_as_it_was_written(kept, tmp_path):
    assert read_intakes(tmp_path) == kept
    assert kept.intakes.looked == 12
    assert read_intakes(tmp_path / "nowhere") is None
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def test_a_checkpoint_knows_what_it_was_trained_on(kept, tmp_path):
    for step, count in ((7, 1), (8, 2)):
        state = kept.state(step)
        assert len(state["intakes"]) == count
        kept.check(state, step, tmp_path)
    kept.check({"bad": []}, 7, tmp_path)  # of a run whose data did not grow then
    other = kept.with_(Intake(7, (source("d"),))).kept(tmp_path)
    other.check(kept.state(6), 6, tmp_path)
    with pytest.raises(InputError, match="does not record what the checkpoint of step 8 was trained on"):
        other.check(kept.state(8), 8, tmp_path)
    assert KeptIntakes.begin([source("a")], "digest").state(5) == {}


def test_what_is_cut_off_does_not_count(kept, tmp_path, monkeypatch):
    """The file of an intake is there, the list of them not yet."""
    write = atomic.write_bytes

    def cut_off(path, data):
        if str(path).endswith(LOOKED):
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(atomic, "write_bytes", cut_off)
    with pytest.raises(InputError, match=r"cannot be written .No space left on device.*free some space"):
        kept.with_(Intake(14, (source("d"),))).kept(tmp_path)
    assert read_intakes(tmp_path) == kept
    monkeypatch.undo()
    other = kept.with_(Intake(14, (source("e"),))).kept(tmp_path)
    assert read_intakes(tmp_path) == other


def test_one_of_a_later_release_is_refused(kept, tmp_path):
    place = tmp_path / FOLDER / LOOKED
    place.write_text(json.dumps(json.loads(place.read_text()) | {"version": 2}))
    with pytest.raises(InputError, match="upgrade ccscale"):
        read_intakes(tmp_path)


@pytest.mark.parametrize("damage", ["text", "missing", "format"])
def test_a_damaged_one_is_refused(kept, tmp_path, damage):
    folder, name = tmp_path / FOLDER, kept.files[1][0]
    if damage == "text":
        (folder / name).write_text((folder / name).read_text().replace("c.tar", "d.tar"))
    elif damage == "missing":
        (folder / name).unlink()
    else:
        listed = json.loads((folder / LOOKED).read_text())
        (folder / LOOKED).write_text(json.dumps(listed | {"format": "x"}))
    with pytest.raises(InputError, match=r"cannot be read .*it records which shards the run uses"):
        read_intakes(tmp_path)
