"""New images in living clusters: each exactly once, old ids as they were; proposals that somebody decides on."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import small_settings, write_config
from harness.disks import small_disk
from harness.killed_making import contents
from harness.lineages import ids_at
from harness.ranks import run_ranks
from harness.stores import make_store

from ccscale import atomic
from ccscale.checkpoint.lock import FolderLock
from ccscale.cli.main import main
from ccscale.clusters import proposal_search, updater
from ccscale.clusters.description import describe_version
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.proposal import Proposal
from ccscale.clusters.update import UpdateOptions
from ccscale.errors import InputError
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features

WIDTH, K = 8, 4


def rows(kinds: list[int], seed: int) -> np.ndarray:
    """Return images (n, D) of kinds: one direction each, K + 1 and more of which no run has seen."""
    rng = np.random.default_rng(seed)
    return (3 * np.eye(WIDTH)[kinds] + 0.3 * rng.normal(size=(len(kinds), WIDTH))).astype(np.float32)


def make_day(folder: Path, shards: int = 2) -> None:
    """Make a store of a day's images: of K known kinds, one of them no image, and of a new kind."""
    keys = [f"day/{i}" for i in range(120)]
    make_store(folder / "day", rows([0, 1, 2, 3, 5] * 24, 1), keys=keys, bad=[3], root="day", shards=shards)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on a store of K kinds of images, whose heads begin from k-means, with living clusters."""
    root = tmp_path_factory.mktemp("living")
    make_store(root / "store", rows([0, 1, 2, 3] * 60, 0), keys=[f"own/{i}" for i in range(240)])
    settings = small_settings(Path(), root / "run", train__max_steps=2)
    settings |= {"data": {"features": str(root / "store")}, "views": {}, "pairs": {"of": "neighbours"}}
    settings["model"] = {"clusters": K, "centres": ["features"]}
    find_neighbours(open_features(root / "store"), 5, device="cpu", show=False)
    assert main(["train", str(write_config(root, settings))]) == 0
    assert main(["lineage", "init", str(root / "run")]) == 0
    return root / "run"


@pytest.fixture
def living(run, tmp_path, monkeypatch) -> Path:
    """A copy of the run, and stores of two days beside it: more of the same, and two new kinds."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    shutil.copytree(run, tmp_path / "run")
    make_day(tmp_path)
    return tmp_path / "run"


def update(run: Path, *options: str) -> int:
    return main(["update", str(run), "--features", str(run.parent / "day"), *options])


@pytest.fixture
def proposals(monkeypatch) -> None:
    """Proposals of all kinds after each update, whatever the images are."""
    none = np.empty(0, np.int64)

    def births(day, state, reservoir, pool) -> list[Proposal]:
        return (
            [Proposal("birth", (), pool.refs, {"stability": 0.9}, "a group", none)] if len(pool) > 4 else []
        )

    def merges(state, reservoir) -> list[Proposal]:
        of = np.isin(reservoir.ids, (0, 1))
        return [Proposal("merge", (0, 1), reservoir.refs[of], {}, "grown together", none)] if of.any() else []

    def splits(state, reservoir) -> list[Proposal]:
        refs = reservoir.refs[reservoir.ids == 2]
        return [
            Proposal("split", (2,), refs, {}, "come apart", (np.arange(len(refs)) % 3 == 0).astype(np.int64))
        ]

    monkeypatch.setattr(proposal_search, "births", births)
    monkeypatch.setattr(proposal_search, "merges", merges)
    monkeypatch.setattr(proposal_search, "splits", splits)


def test_each_image_once_and_old_ids_as_they_were(living, capsys):
    before = ids_at(living)
    assert len(before) == 240
    assert update(living, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    after = ids_at(living)
    assert len(after) == 360
    assert {key: after[key] for key in before} == before
    assert after["day/3"] is None
    assert told["images"] == 360
    assert told["bad"] == 1
    new = [one for key, one in after.items() if key not in before]
    assert told["unassigned"] == new.count(-1)
    assert (
        sum(one["images"] for one in describe_version(open_lineage(living))["clusters"]) == told["assigned"]
    )
    assert update(living, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["versions"], again["images"]) == ([], 360)


def test_proposals_are_decided_on(living, proposals, capsys, monkeypatch):
    monkeypatch.setattr(
        "ccscale.clusters.reservoir.MOST", 20
    )  # the others of a split cluster are looked at again
    assert update(living) == 0
    assert "p1, a birth: a group" in capsys.readouterr().out
    before = ids_at(living)
    assert main(["lineage", "refuse", str(living), "p2"]) == 0
    assert ids_at(living) == before
    assert main(["lineage", "accept", str(living), "p1", "p3"]) == 0
    lineage, after = open_lineage(living), ids_at(living)
    changed = {key for key in before if before[key] != after[key]}
    events = {event.kind: event for event in lineage.current.events}
    assert (lineage.number, lineage.current.changed) == (4, len(changed))
    assert {before[key] for key in changed} == {-1, 2}
    assert {after[key] for key in changed if before[key] == -1} == {K} == set(events["born"].ids)
    assert {after[key] for key in changed if before[key] == 2} == {K + 1} == set(events["split"].ids)
    assert lineage.current.next_id == K + 2
    ids = [one for one in after.values() if one is not None]
    assert {one["id"]: one["images"] for one in describe_version(open_lineage(living))["clusters"]} == {
        one: ids.count(one) for one in range(K + 2)
    }
    # What was accepted is not there again, what was refused is not made again, and numbers go on.
    assert main(["lineage", "accept", str(living), "p1"]) == 0
    assert open_lineage(living).number == 4
    assert main(["lineage", "accept", str(living), "p2"]) == 2
    assert "has no open proposal 'p2'" in capsys.readouterr().err
    make_store(
        living.parent / "next",
        rows([0, 5, 5], 2),
        root="next",
        keys=["next/0", "next/1", "next/2"],
    )
    assert main(["update", str(living), "--features", str(living.parent / "next")]) == 0
    current = open_lineage(living).current
    assert [(one.id, one.kind) for one in current.open] == [("p4", "split")]
    assert [one.id for one in current.proposals if one.refused] == ["p2"]


def test_merged_clusters_and_a_way_back(living, proposals, tmp_path):
    assert update(living, "--apply", "merges,births") == 0
    assert open_lineage(living).number == 3
    before, after = ids_at(living, 2), ids_at(living)
    gone = {before[key] for key in before if before[key] != after[key]} - {-1}
    assert len(gone) == 1
    assert gone <= {0, 1}
    out = [tmp_path / f"{number}.parquet" for number in range(2)]
    table = ["lineage", "table", str(living), "--out"]
    main([*table, str(out[0]), "--version", "2"])
    versions = contents(living / "clusters")
    assert main(["lineage", "rollback", str(living), "2"]) == 0
    main([*table, str(out[1])])
    assert out[0].read_bytes() == out[1].read_bytes()
    assert main(["lineage", "accept", str(living), "p2", "p1"]) == 0
    assert open_lineage(living).number == 4
    assert [event.ids for event in open_lineage(living).current.events if event.kind == "born"] == [(K + 1,)]
    now = contents(living / "clusters")
    assert {name: now[name] for name in versions if name != "current"} == {
        name: one for name, one in versions.items() if name != "current"
    }


def test_images_are_looked_at_again_where_that_is_asked_for(living, proposals):
    update(living, "--apply", "splits")
    before = ids_at(living)
    assert main(["update", str(living), "--reassign"]) == 0
    lineage, after = open_lineage(living), ids_at(living)
    changed = [key for key in before if before[key] != after[key]]
    assert (lineage.number, lineage.current.why) == (4, "reassign")
    assert lineage.current.changed == len(changed) > 0
    ids = [one for one in after.values() if one is not None]
    sizes = {one["id"]: one["images"] for one in describe_version(open_lineage(living))["clusters"]}
    assert sizes == {one: ids.count(one) for one in sizes}


@pytest.mark.parametrize("after", [0, 2])
def test_a_kill_while_shards_are_assigned(living, after, monkeypatch, tmp_path):
    """The same command ends with the same bytes."""
    shutil.copytree(living, tmp_path / "other")
    shutil.rmtree(tmp_path / "day")
    make_day(tmp_path, shards=5)
    assert update(living) == 0
    other, left = tmp_path / "other", [after]
    os.rename(living, tmp_path / "whole")
    os.rename(other, living)
    real = updater.assign_images

    def die(*given):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(updater, "assign_images", die)
        assert update(living) == 75
    assert open_lineage(living).number == 1
    done = list((living / "clusters" / ".update" / "version" / "tables").glob("*.parquet"))
    assert len(done) == after
    stamps = {path.name: path.stat().st_mtime_ns for path in done}
    with monkeypatch.context() as patch:
        patch.setattr(updater, "assign_images", real)
        assert update(living) == 0
    made = living / "clusters" / "v000002" / "tables"
    assert {name: (made / name).stat().st_mtime_ns for name in stamps} == stamps
    assert contents(living / "clusters") == contents(tmp_path / "whole" / "clusters")


class Death(BaseException):
    """A process that is gone: nobody catches it."""


def live_through(run: Path, deaths: list[int], after: bool, monkeypatch) -> int:
    """Run commands of days, each again where it has died; return how many files were written.

    They die at the files of these numbers, before these have their name or right after.
    """
    replacing, count = atomic.replacing, 0

    @contextmanager
    def dying(*arguments, **options):
        nonlocal count
        count += 1
        here = count in deaths
        with replacing(*arguments, **options) as file:
            yield file
            if here and not after:
                raise Death
        if here:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "replacing", dying)
        for command in (
            ["update", str(run), "--features", str(run.parent / "day"), "--apply", "births"],
            ["lineage", "accept", str(run), "p2", "p3"],
            ["lineage", "rollback", str(run), "2"],
            ["lineage", "refuse", str(run), "p3"],
            ["update", str(run), "--reassign"],
            ["lineage", "rollback", str(run), "4"],
        ):
            while True:
                try:
                    assert main(command) == 0
                    break
                except Death:
                    assert len(ids_at(run)) == open_lineage(run).current.counts["images"]
    return count


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_deaths_anywhere_change_nothing(living, after, proposals, monkeypatch, tmp_path):
    """At every third file that six commands write, and then each time they begin again."""
    for name in ("whole", "copy"):
        shutil.copytree(living, tmp_path / name)
    count = live_through(tmp_path / "whole", [], after, monkeypatch)
    expected = contents(tmp_path / "whole" / "clusters")
    for first in range(1, count + 1, 3):
        shutil.rmtree(living)
        shutil.copytree(tmp_path / "copy", living)
        live_through(living, [first, first + 4], after, monkeypatch)
        assert contents(living / "clusters") == expected


def live_on_rank(rank: int, run: Path) -> None:
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    assert main(["lineage", "init", str(run)]) == 0
    assert update(run, "--apply", "births,merges,splits") == 0
    assert main(["update", str(run), "--reassign"]) == 0


@pytest.mark.dist
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.slow
def test_any_number_of_ranks_makes_the_same_bytes(world, living, tmp_path):
    shutil.rmtree(living / "clusters")
    shutil.copytree(living, tmp_path / "copy")
    live_on_rank(0, living)
    os.rename(living, tmp_path / "whole")
    os.rename(tmp_path / "copy", living)
    run_ranks(world, live_on_rank, living)
    assert contents(living / "clusters") == contents(tmp_path / "whole" / "clusters")


def test_a_run_that_goes_on_does_not_move_its_clusters(living):
    shutil.rmtree(living / "checkpoints")
    assert update(living) == 0
    assert open_lineage(living).number == 2


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 8_000, 24_000])
def test_a_full_disk_and_one_that_is_read_only(living, free, tmp_path, capsys):
    """It is told, the version before stays current and whole, and the same command goes on."""
    with small_disk(tmp_path / "disk", 8_000_000) as disk:
        run = disk.place / "run"
        shutil.copytree(living, run)
        (run.parent / "day").symlink_to(living.parent / "day")
        before = ids_at(run)
        (disk.place / "held").write_bytes(bytes(free))
        disk.fill()
        (disk.place / "held").unlink()
        assert update(run) in (1, 2)
        assert "cannot be written: No space left on device" in capsys.readouterr().err
        assert (open_lineage(run).number, ids_at(run)) == (1, before)
        disk.make_room()
        assert update(run) == 0
        with disk.read_only(disk.place):
            assert main(["lineage", "log", str(run)]) == 0
            capsys.readouterr()
            for command in (
                ["update", "--reassign"],
                ["lineage", "rollback", "1"],
                ["lineage", "accept", "p1"],
            ):
                verb = command[: 1 + (command[0] == "lineage")]
                assert main([*verb, str(run), *command[len(verb) :]]) == 2
                assert "cannot be written: Read-only file system" in capsys.readouterr().err
        assert update(living) == 0
        made, expected = contents(run / "clusters"), contents(living / "clusters")
        listed = "v000002/version.json"  # which says where the store is
        assert made | {listed: b""} == expected | {listed: b""}


def test_refused(living, capsys, tmp_path, monkeypatch):
    for name, settings in (("weights", {"weights": "1" * 64}), ("size", {"size": 64})):
        make_store(tmp_path / name, rows([0] * 8, 3), root=name, **settings)
        assert main(["update", str(living), "--features", str(tmp_path / name)]) == 2
        assert "has features of another backbone than the clusters" in capsys.readouterr().err
    assert update(living) == 0
    shutil.rmtree(tmp_path / "day")
    make_store(tmp_path / "day", rows([0, 1, 2, 3] * 3, 4), shards=1, root="day")
    assert update(living) == 2
    assert "has changed since its images were assigned" in capsys.readouterr().err
    assert main(["update", str(living)]) == 2
    assert "give the new images: --shards" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        update(living, "--apply", "birth")
    assert "'birth' is not one of births, merges, splits; did you mean 'births'?" in capsys.readouterr().err
    state = living / "clusters" / "v000002" / "state.npz"
    state.write_bytes(state.read_bytes()[:-1])
    make_store(tmp_path / "more", rows([0] * 8, 3), root="more", keys=[f"more/{i}" for i in range(8)])
    assert main(["update", str(living), "--features", str(tmp_path / "more")]) == 2
    assert "state.npz is damaged" in capsys.readouterr().err
    assert open_lineage(living).number == 2


def test_unknown_kinds_are_refused():
    with pytest.raises(
        InputError, match=r"'births' is not a kind of .*did you mean 'birth'\?; .*: birth, merge, split$"
    ):
        UpdateOptions(features="day", apply=("births",)).check()


def test_two_at_once(living, capsys):
    """The second is refused, by the name of the first."""
    lock = FolderLock(living / "clusters")
    with ThreadPoolExecutor(1) as other:
        other.submit(lock.take).result()
        assert update(living) == 2
        assert "clusters is in use by" in capsys.readouterr().err
        assert main(["lineage", "rollback", str(living), "1"]) == 2
        other.submit(lock.release).result()
    assert update(living) == 0


def test_drift_ends_with_a_code_of_its_own(living, capsys, monkeypatch):
    monkeypatch.setattr(updater.Reference, "measure", lambda *_: {"alarm": "it is all grey"})
    assert update(living, "--fail-on-drift") == 3
    assert "drift: made~2-train-000000.parquet: it is all grey" in " ".join(capsys.readouterr().err.split())


def test_every_table_tells_its_version(living):
    update(living)
    for path in (living / "clusters").glob("v*/tables/*.parquet"):
        facts = json.loads(pq.read_schema(path).metadata[b"ccscale.clusters"])
        assert path.parts[-3] == f"v{facts['version']:06d}"
