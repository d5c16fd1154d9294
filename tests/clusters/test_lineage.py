"""Versions: whole or not there, never changed; ids overlaid along their chain; a way back, byte by byte."""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness.killed_making import contents
from harness.lineages import commit, ids_at

from ccscale.cli.main import main
from ccscale.clusters import draft
from ccscale.clusters.draft import begin_draft, finish_interrupted
from ccscale.clusters.lineage import open_lineage, read_current
from ccscale.clusters.rollback import roll_back
from ccscale.errors import InputError


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """Version 1 with ten images, 2 with six more, 3 with two changed one by one, 4 with a cluster renamed."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    commit(tmp_path, "init", [[0, 1, 2, 3, 0], [0, 1, 2, 3, -2]])
    commit(tmp_path, "update", [[0, 1, -1, -1, -1, 3]])
    commit(tmp_path, "accept", changes={(2, 2): 4, (2, 3): 4}, next_id=5)
    commit(tmp_path, "accept", renamed={3: 2})
    return tmp_path


def test_ids_along_the_chain(run):
    before = ids_at(run, 2)
    assert [before[f"2/{row}"] for row in range(6)] == [0, 1, -1, -1, -1, 3]
    assert before["1/4"] is None
    born = ids_at(run, 3)
    assert {key: one for key, one in born.items() if before[key] != one} == {"2/2": 4, "2/3": 4}
    merged = ids_at(run)
    assert {key for key, one in merged.items() if born[key] != one} == {"0/3", "1/3", "2/5"}
    assert {merged[key] for key in ("0/3", "1/3", "2/5")} == {2}


def test_an_id_that_an_image_got_is_renamed_later(tmp_path):
    commit(tmp_path, "init", [[0, 1, 2, 3]])
    commit(tmp_path, "accept", changes={(0, 0): 2})
    commit(tmp_path, "accept", renamed={2: 3})
    assert ids_at(tmp_path) == {"0/0": 3, "0/1": 1, "0/2": 3, "0/3": 3}


def test_the_table_of_a_version_tells_by_which_version(run):
    out = run / "t.parquet"
    assert main(["lineage", "table", str(run), "--out", str(out)]) == 0
    rows = {row["key"]: row for row in pq.read_table(out).to_pylist()}
    assert [rows[key]["version"] for key in ("0/0", "2/0", "2/2", "0/3")] == [1, 2, 3, 4]
    assert rows["2/4"]["reason"] == "too far"
    assert rows["2/2"]["reason"] is None
    assert rows["1/4"]["id"] is None
    assert rows["1/4"]["confidence"] is None


def test_a_rollback_gives_the_tables_of_before(run, capsys):
    out = [run / f"{number}.csv" for number in range(3)]
    main(["lineage", "table", str(run), "--version", "2", "--out", str(out[0])])
    versions = contents(run / "clusters")
    assert main(["lineage", "rollback", str(run), "2"]) == 0
    main(["lineage", "table", str(run), "--out", str(out[1])])
    assert out[0].read_bytes() == out[1].read_bytes()
    new = commit(run, "update", [[1, 1]])
    assert (new.number, new.parent, new.next_id, new.tables[0].number) == (5, 2, 5, 3)
    assert main(["lineage", "rollback", str(run), "4"]) == 0
    after = contents(run / "clusters")
    assert {name: after[name] for name in versions} == versions
    main(["lineage", "log", str(run), "--all", "--json"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["versions"]
    assert [(one["version"], one["rolled_back"]) for one in told] == [
        (1, False),
        (2, False),
        (3, False),
        (4, False),
        (5, True),
    ]


def test_what_lies_between_two_versions(run, capsys):
    assert main(["lineage", "diff", str(run), "1", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in told["added"]] == [2, 3, 4]
    assert not told["removed"]
    assert told["moves"] == [{"from": 3, "to": 2, "images": 2}]
    assert told["changed"] == 2
    assert main(["lineage", "diff", str(run), "4", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    moves = {(one["from"], one["to"]): one["images"] for one in told["moves"]}
    assert moves == {(2, 3): 3, (4, -1): 2}
    assert [one["version"] for one in told["removed"]] == [3, 4]


@pytest.mark.parametrize("at", ["rename", "current", "drop"])
def test_a_kill_in_a_commit(run, at, monkeypatch):
    """The version before is whole, or the new one; the next command ends what was begun."""
    copy = run / "copy"
    shutil.copytree(run / "clusters", copy / "clusters")
    commit(copy, "update", [[3, 3]])

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        name = {"rename": "os.rename", "current": "write_current", "drop": "_drop"}[at]
        if at == "drop":
            real, calls = draft._drop, []
            patch.setattr(draft, "_drop", lambda one: die() if calls else calls.append(real(one)))
        else:
            patch.setattr(f"ccscale.clusters.draft.{name}", die)
        with pytest.raises(KeyboardInterrupt):
            commit(run, "update", [[3, 3]])
    assert read_current(run / "clusters") == (5 if at == "drop" else 4)
    assert len(ids_at(run)) == (18 if at == "drop" else 16)
    settled = finish_interrupted(run / "clusters")
    assert (settled is None) == (at == "rename")
    if settled is None:
        commit(run, "update", [[3, 3]])
    assert contents(run / "clusters") == contents(copy / "clusters")


def test_another_command_drops_what_was_begun(run):
    draft = begin_draft(run / "clusters", "update", "one")
    (draft.folder / "something").touch()
    assert begin_draft(run / "clusters", "update", "one") == draft
    assert (draft.folder / "something").exists()
    begin_draft(run / "clusters", "update", "another")
    assert not (draft.folder / "something").exists()
    assert roll_back(run, 3) == 4
    assert not (run / "clusters" / ".update").exists()


def test_what_is_damaged_is_named(run, capsys):
    clusters = run / "clusters"
    (clusters / "current").write_text("9\n")
    with pytest.raises(InputError, match=r"current is damaged: it names no existing version \(1, 2, 3, 4\)"):
        open_lineage(run)
    assert roll_back(run, 4) is None
    assert read_current(run / "clusters") == 4
    table = clusters / "v000002" / "tables" / "made-train-000002.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"made-train-000002.parquet is damaged \(its SHA-256 does not match the listed"
    ):
        ids_at(run)
    state = clusters / "v000001" / "state.npz"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"state.npz is damaged"):
        open_lineage(run).state()
    place = clusters / "v000004" / "version.json"
    place.write_text(place.read_text().replace('"accept"', '"update"'))
    assert main(["lineage", "log", str(run)]) == 2
    assert "version.json is damaged (its contents do not match its hash)" in capsys.readouterr().err
    assert main(["lineage", "rollback", str(run), "2"]) == 0  # whose table is damaged, and its list is whole
    assert main(["lineage", "rollback", str(run), "9"]) == 2
    assert "there is no version 9" in capsys.readouterr().err


def test_no_clusters_yet(tmp_path, capsys):
    for verb in ("log", "rollback"):
        assert main(["lineage", verb, str(tmp_path), *(["1"] if verb == "rollback" else [])]) == 2
        assert (
            f"has no living clusters yet; create them with `ccscale lineage init {tmp_path}`"
            in capsys.readouterr().err
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_only_be_read(run, capsys):
    os.chmod(run / "clusters", 0o555)
    try:
        assert main(["lineage", "log", str(run)]) == 0
        assert main(["lineage", "rollback", str(run), "2"]) == 2
        assert "cannot be written" in capsys.readouterr().err
    finally:
        os.chmod(run / "clusters", 0o755)
