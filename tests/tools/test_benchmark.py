"""tools/paper/benchmark.py: what it compares, without training it."""

import json
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from conftest import small_settings, write_config
from harness.stores import make_store
from harness.tools import TOOLS

from ccscale.config.file import parse_config
from ccscale.errors import InputError


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool as a module."""
    monkeypatch.syspath_prepend(str(TOOLS / "paper"))
    import benchmark

    return benchmark


def test_self_labelling_and_as_many_epochs_without_it_go_on_from_one_run(benchmark, shards, tmp_path):
    config = str(write_config(tmp_path, small_settings(shards, tmp_path / "unused", train__epochs=3)))
    with pytest.raises(InputError, match=r"add stages\.boost\.epochs=N"):
        benchmark.studies.self_labelling(config, [])
    cells = benchmark.plan(
        benchmark.studies.self_labelling(config, ["stages.boost.epochs=2"]), [0, 1], tmp_path / "out"
    )
    epochs = [(cell.config.train.epochs, cell.config.stages.boost.epochs) for cell in cells[::2]]
    assert epochs == [(3, 0), (5, 0), (3, 2)]
    for cell in cells[:2]:
        cell.config.run_folder.mkdir(parents=True)
        (cell.config.run_folder / "weights").write_text(f"seed {cell.seed}")
    for _ in range(2):  # what is there is gone on with
        for cell in cells[2:]:
            benchmark.copy_run(cell, cells)
            weights = cell.config.run_folder / "weights"
            assert weights.read_text().startswith(f"seed {cell.seed}")
            weights.write_text(f"seed {cell.seed}, trained on")
    assert (cells[0].config.run_folder / "weights").read_text() == "seed 0"
    assert all((cell.config.run_folder / "weights").read_text().endswith("trained on") for cell in cells[2:])
    with pytest.raises(InputError, match="go on from each other"):
        benchmark.launch(cells, tmp_path, "--cluster local")


def test_a_cell_is_told_no_more_than_the_user_has_said(benchmark, shards, tmp_path, monkeypatch):
    """What is not said follows from a feature store: the backbone that made it, for one."""
    config = str(write_config(tmp_path, small_settings(shards, tmp_path / "unused")))
    variants = benchmark.studies.self_labelling(config, ["stages.boost.epochs=2", "model.clusters=7"])
    cell = benchmark.plan(variants, [3], tmp_path / "out")[0]
    commands = []
    ended = SimpleNamespace(wait=lambda timeout: 0)
    monkeypatch.setattr(
        benchmark.subprocess, "Popen", lambda command, **how: commands.append(command) or ended
    )
    assert benchmark.run_cell(cell) == 0
    ((*_, told),) = commands
    given = json.loads(told)
    assert (given["model"]["clusters"], given["seed"]) == (7, 3)
    assert "heads" not in given["model"]
    assert "pairs" not in given


def test_the_notes_name_the_backbone_that_made_the_features(benchmark, shards, tmp_path):
    store = make_store(tmp_path / "store", np.ones((8, 3), np.float32), backbone="test_vit", size=48)
    for given, seen in (
        ({"shards": str(shards)}, "backbone test_resnet, views of 16 px"),
        ({"features": str(store.folder)}, "features of test_vit at 48 px"),
    ):
        config = small_settings(shards, tmp_path / "run") | {"data": given}
        assert benchmark._seen(parse_config(config)) == seen
