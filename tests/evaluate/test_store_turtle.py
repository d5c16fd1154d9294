"""TURTLE finds clouds of points in stores of the same images, the same for a seed; and tells what it refuses."""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from harness.stores import make_store

from ccscale.cli.main import main
from ccscale.errors import InputError
from ccscale.evaluate.store_turtle import turtle_stores
from ccscale.features import turtle_state

K, IMAGES = 3, 150


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two spaces of clouds around K points; one image of the second has no features."""
    folder, draw = tmp_path_factory.mktemp("stores"), np.random.default_rng(0)
    labels = np.arange(IMAGES) % K
    made = []
    for name, width, bad in (("one", 8, []), ("two", 6, [7])):
        centres = 3 * draw.normal(size=(K, width))
        features = (centres[labels] + draw.normal(size=(IMAGES, width))).astype(np.float32)
        make_store(folder / name, features, labels, bad=bad)
        made.append(str(folder / name))
    return made


@pytest.mark.slow
def test_clouds_are_found_and_written(
    stores: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--clusters", str(K), "--steps", "100", "--batch", "100", "--device", "cpu", "--seeds", "2"]
    assert main(["turtle", *stores, *options, "--out", str(tmp_path / "found.parquet")]) == 0
    assert "has the lowest loss: 149 images in 3 clusters" in capsys.readouterr().out
    table = pyarrow.parquet.read_table(tmp_path / "found.parquet")
    clusters = table["cluster"].to_pylist()
    assert table["key"].to_pylist()[:2] == ["key-00000000", "key-00000001"]
    assert clusters[7] is None
    for cloud in range(K):
        members = [cluster for cluster in clusters[cloud::K] if cluster is not None]
        assert members.count(members[0]) > 0.9 * len(members)
    assert len({clusters[0], clusters[1], clusters[2]}) == K


def test_a_seed_gives_the_same(stores: list[str]) -> None:
    found = [turtle_stores(stores[:1], K, steps=5, batch=64, seeds=2, device="cpu") for _ in range(2)]
    assert found[0] == found[1]
    assert found[0]["seeds"][0]["loss"] != found[0]["seeds"][1]["loss"]
    assert found[0]["seed"] == min(found[0]["seeds"], key=lambda row: row["loss"])["seed"]


def test_a_killed_search_goes_on(stores: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last state that was kept, to the bytes of one that was not killed; another search begins anew."""
    options = {"steps": 12, "batch": 64, "seeds": 2, "device": "cpu"}
    expected = turtle_stores(stores, K, out=tmp_path / "whole.csv", **options)
    original, steps = turtle_state.Keeper.keep, []

    def until_killed(keeper: turtle_state.Keeper, state: turtle_state.TurtleState, is_last: bool) -> None:
        steps.append(state.step)
        if len(steps) == 17:  # the second seed's fifth
            raise KeyboardInterrupt
        original(keeper, state, is_last)

    monkeypatch.setattr(turtle_state, "SECONDS", 0.0)
    monkeypatch.setattr(turtle_state.Keeper, "keep", until_killed)
    with pytest.raises(KeyboardInterrupt):
        turtle_stores(stores, K, out=tmp_path / "out.csv", **options)
    steps.clear()
    found = turtle_stores(stores, K, out=tmp_path / "out.csv", **options)
    assert steps == [5, 6, 7, 8, 9, 10, 11, 12]
    assert found == expected | {"out": str(tmp_path / "out.csv")}
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "whole.csv"]


def test_what_is_refused(stores: list[str], tmp_path: Path) -> None:
    make_store(tmp_path / "other", np.ones((9, 4), np.float32))
    with pytest.raises(InputError, match=r"other is not of the images of .*one: embed the same shards"):
        turtle_stores([stores[0], str(tmp_path / "other")], K)
    with pytest.raises(InputError, match="9 images do not allow 10 clusters: use 2 to 9"):
        turtle_stores([str(tmp_path / "other")], 10, device="cpu")
