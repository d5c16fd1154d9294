"""tools/benchmark.py on made images: which cells are run, and what the tables say of them."""

import csv
import json
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import benchmark
import benchmark_cell
import benchmark_studies as studies
import numpy as np
import pytest
import torch
from benchmark_studies import CLUSTER_HEAD, ON_FEATURES, Variant
from benchmark_tables import BY_LABELS, Row, figures_of, mean_and_spread, results_csv, table
from conftest import small_settings, write_config
from PIL import Image

from ccscale.config.file import load_config
from ccscale.errors import InputError
from ccscale.model.network import ContrastiveClustering

DIGITS = Path(__file__).parents[2] / "configs" / "digits.yaml"


@pytest.fixture
def config(shards: Path, tmp_path: Path) -> str:
    """A config that trains in seconds."""
    settings = small_settings(shards, tmp_path / "unused", train__max_steps=2)
    return str(write_config(tmp_path, settings))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cells that were done, in this process: to start one takes seconds."""
    names: list[str] = []

    def here(cell: benchmark.Cell) -> int:
        names.append(f"{cell.variant.name}, {cell.seed}")
        return benchmark_cell.main(cell.variant.kind, cell.record, cell.config)

    monkeypatch.setattr(benchmark, "run_cell", here)
    return names


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_study_from_the_command_line_to_its_table(config, tmp_path, done, capsys):
    out = tmp_path / "out"
    arguments = ["batch-size", config, "--values", "8", "16", "--seeds", "0", "1", "--out", str(out)]
    assert benchmark.main([*arguments, "evaluate.every=1"]) == 0
    said = capsys.readouterr().out
    assert said == (out / "table.md").read_text()
    rows = rows_of(out)
    names = [
        "global batch 8",
        "global batch 16",
        "k-means on pixels",
        "k-means on features, test_resnet untrained",
    ]
    assert [(row["variant"], row["seed"]) for row in rows] == [(name, s) for name in names for s in "01"]
    assert len(done) == 8
    assert [row["steps"] for row in rows] == ["2"] * 4 + ["0"] * 4
    for row in rows:
        if row["scored_by"] == CLUSTER_HEAD:
            run = out / row["variant"].replace(" ", "-") / f"seed={row['seed']}"
            assert float(row["acc"]) == json.loads((run / "evaluation.json").read_text())["acc"]
            assert load_config(run / "config.yaml").seed == int(row["seed"])
        means = [float(r["acc"]) for r in rows if r["variant"] == row["variant"]]
        assert f"{row['variant']} | " in said
        assert f"{statistics.fmean(means):.3f}"[1:] + " ± " in said
    with Image.open(out / "figure.png") as figure:
        assert figure.width > 500

    del done[:]
    assert benchmark.main([*arguments, "evaluate.every=1", "--json"]) == 0  # again: nothing is done
    assert done == []
    assert [run["variant"] for run in json.loads(capsys.readouterr().out)["runs"]] == [
        row["variant"] for row in rows
    ]

    metrics = out / "global-batch-8" / "seed=1" / "metrics.jsonl"
    before = metrics.read_bytes()
    (out / "global-batch-8" / "seed=1.json").unlink()
    assert benchmark.main([*arguments, "evaluate.every=1", "--best-by-labels"]) == 0
    assert done == ["global batch 8, 1"]  # scored again, and not trained again
    assert metrics.read_bytes() == before
    assert (out / "table.md").read_text().startswith(BY_LABELS)
    rows = {row["seed"]: row for row in rows_of(out) if row["variant"] == "global batch 8"}
    assert rows["1"]["machine"] == "not known (trained before)"
    assert rows["0"]["machine"] == benchmark_cell.machine()


def test_a_cell_of_another_config_is_not_done(config, tmp_path):
    (cell,) = benchmark.plan([Variant("a", config)], [3], tmp_path / "out")
    cell.record.parent.mkdir(parents=True)
    assert cell.read() is None
    cell.record.write_text(json.dumps({"config": cell.config.model_dump(mode="json")}))
    assert cell.read() is not None
    before = cell.config.model_dump(mode="json")
    del before["train"]["keep_last"]  # as if the key, at its default, had come later
    cell.record.write_text(json.dumps({"config": before}))
    assert cell.read() is not None
    (longer,) = benchmark.plan([Variant("a", config, ("train.max_steps=3",))], [3], tmp_path / "out")
    assert longer.record == cell.record
    assert longer.read() is None
    cell.record.write_text("{")
    with pytest.raises(InputError, match="remove it"):
        cell.read()


def test_untrained_features_are_of_the_first_weights_and_the_images_own_statistics(config):
    settings = load_config(config, ["seed=6", "evaluate.batch=150"])
    features, labels = benchmark_cell.untrained(settings)
    pixels, same = benchmark_cell.pixels(settings)
    assert pixels.shape == (150, 3 * 16 * 16)
    assert labels.tolist() == same.tolist()
    torch.manual_seed(6)
    network = ContrastiveClustering(settings.model, 16)  # in training mode: the statistics of a batch
    images = torch.from_numpy(pixels).unflatten(1, (16, 16, 3)).permute(0, 3, 1, 2)
    wanted = network(images).features.detach().numpy()
    # Running variances are over n - 1, a hundredth more at most.
    np.testing.assert_allclose(features, wanted, rtol=0.02, atol=0.02 * wanted.std())


def record(acc: float, **more: Any) -> dict[str, Any]:
    return {
        "scores": {CLUSTER_HEAD: {"acc": acc, "nmi": 0.5, "ari": -0.25, "f": 1.0}},
        "evaluations": [{"epoch": e, "acc": a, "nmi": 0, "ari": 0, "f": 0} for e, a in ((1, 0.9), (2, acc))],
        "epochs": 2,
        "steps": 8,
        "seconds": 4.0,
        "commit": "abc",
        "machine": "a machine",
        **more,
    }


def test_the_table_s_arithmetic():
    assert mean_and_spread([0.5]) == (0.5, None)
    mean, spread = mean_and_spread([0.1, 0.2, 0.6])
    assert (mean, spread) == (pytest.approx(0.3), pytest.approx(0.07**0.5))  # over n - 1
    variant = Variant("a", "x.yaml", published=(0.79, 0.705, 0.637))
    runs = [figures_of(variant, seed, record(acc)) for seed, acc in enumerate((0.5, 0.7))]
    other = Variant("b", "x.yaml")
    text = table(
        [Row(variant, runs), Row(other, [figures_of(other, 0, record(1.0))])],
        "heading",
        ["missing: c"],
        ["a note"],
        False,
    )
    lines = text.splitlines()
    assert lines[0] == "heading"
    assert lines[4] == (
        "| a | cluster head | .600 ± .141 | .500 ± .000 | -.250 ± .000 | 2 | .500 .700 | .790 / .705 / .637 |"
    )
    assert lines[5] == "| b | cluster head | 1.000 | .500 | -.250 | 1 | 1.000 |  |"
    assert lines[-2:] == ["- missing: c", "- a note"]
    written = list(csv.DictReader(results_csv([Row(variant, runs)]).splitlines()))
    assert written[1] == {
        "variant": "a", "seed": "1", "acc": "0.7", "nmi": "0.5", "ari": "-0.25", "f": "1.0", "epochs": "2",
        "steps": "8", "seconds": "4.0", "commit": "abc", "machine": "a machine", "scored_by": "cluster head",
    }  # fmt: skip


def test_the_labels_choose_only_where_they_are_told_to():
    variant = Variant("a", "x.yaml")
    last, best = (figures_of(variant, 0, record(0.5), best) for best in (False, True))
    assert (last["acc"], last["epochs"]) == (0.5, 2)
    assert (best["acc"], best["epochs"]) == (0.9, 1)
    on_features = Variant("a", "x.yaml", scored_by=ON_FEATURES)
    with_means = record(0.5, scores={ON_FEATURES: {"acc": 0.4, "nmi": 0, "ari": 0, "f": 0}})
    assert figures_of(on_features, 0, with_means, best=True)["acc"] == 0.4
    with pytest.raises(InputError, match="too few labelled images"):
        figures_of(on_features, 0, record(0.5))


def test_each_operation_that_the_config_has_is_left_out_in_turn(config):
    variants = studies.augmentation(str(DIGITS), [])
    names = ["crop", "rotation", "shift", "zoom", "colour jitter"]  # the digits have no flip, grey, blur
    wanted = ["both views augmented", *(f"without {name}" for name in names), "one view raw", "none"]
    assert [variant.name for variant in variants] == wanted
    whole, *others = (load_config(variant.config, variant.overrides).views for variant in variants)
    for views, (has, _) in zip(others, (studies.OPERATIONS[name] for name in names), strict=False):
        assert has(whole)
        assert not has(views)
        assert sum(has(views) for has, _ in studies.OPERATIONS.values()) == len(names) - 1
    assert [views.raw for views in others[-2:]] == [1, 2]
    assert len(studies.augmentation(config, [])) == 3 + 5  # crop, flip, jitter, grey, blur


def test_heads_are_the_paper_s():
    both, instance, cluster = studies.heads(str(DIGITS), ["train.epochs=3"])
    configs = [load_config(variant.config, variant.overrides) for variant in (both, instance, cluster)]
    assert [config.losses for config in configs] == [{"instance", "cluster"}, {"instance"}, {"cluster"}]
    assert [variant.scored_by for variant in (both, instance, cluster)] == [
        CLUSTER_HEAD,
        ON_FEATURES,
        CLUSTER_HEAD,
    ]
    assert {config.train.epochs for config in configs} == {3}


def test_k_means_stands_beside_each_data_set_and_backbone_once(tmp_path):
    backbones = studies.backbone(str(DIGITS), [], ["resnet10t", "resnet18"])
    assert [variant.name for variant in studies.baselines(backbones)] == [
        "k-means on pixels",
        "k-means on features, resnet10t untrained",
        "k-means on features, resnet18 untrained",
    ]
    for name in ("stl10", "cifar10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text("{}")
    args = benchmark._parser().parse_args(
        ["table2", "--data", str(tmp_path), "--out", "out", "train.epochs=2"]
    )
    variants, missing = benchmark.choose(args)
    assert [(variant.name, variant.published) for variant in variants[:2]] == [
        ("cifar10", (0.79, 0.705, 0.637)),
        ("stl10", (0.85, 0.764, 0.726)),
    ]
    assert [variant.name for variant in variants[2:4]] == [
        "cifar10: k-means on pixels (64 px)",
        "stl10: k-means on pixels (64 px)",
    ]
    assert len(variants) == 6
    assert len(missing) == 4
    assert missing[0] == f"missing: cifar20 has no shards in {tmp_path / 'cifar20'}"
    assert variants[0].load(Path("r"), 5).data.shards == str(tmp_path / "cifar10")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["heads", "CONFIG", "run=x"], "run=x: every run's folder and seed are set here"),
        (["heads", "CONFIG", "seed=1"], "seed=1: every run's folder"),
        (["heads", "CONFIG", "--seeds", "1", "1"], "names a seed twice"),
        (["heads", "CONFIG", "train.epoch=1"], "train.epochs"),
        (["heads", "CONFIG", "--best-by-labels"], "add evaluate.every=1"),
        (["heads", "nowhere.yaml"], "there is no config file nowhere.yaml"),
        (["backbone", "CONFIG", "model.backbone=resnet18"], "model.backbone is what this study sets"),
        (["batch-size", "CONFIG", "--values", "8", "8"], "named twice"),
        (["augmentation", "CONFIG", "views.raw=1"], "views.raw is what this study sets"),
        (["table2", "--data", "nowhere"], "nowhere has shards of none of cifar10, cifar20"),
        (["heads", "CONFIG", "--launch", "--sweep seed=1,2"], "nothing else"),
        (["heads", "CONFIG", "--launch", "--tasks-per-node 3"], "3 ranks do not divide"),
    ],
)
def test_nonsense_is_refused(arguments, sentence, config, tmp_path, capsys):
    arguments = [config if argument == "CONFIG" else argument for argument in arguments]
    assert benchmark.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert not (tmp_path / "out").exists()


def test_the_folder_is_no_file(config, capsys):
    assert benchmark.main(["heads", config, "--out", config]) == 2
    assert "is a file" in capsys.readouterr().err


def test_runs_that_are_not_scored_are_submitted(config, tmp_path, monkeypatch):
    import ccscale.launch.submit

    seen: dict[str, Any] = {}

    def submit(configs, folder, resources):
        seen.update(runs=[config.run for config in configs], folder=folder, tasks=resources.tasks)
        return []

    monkeypatch.setattr(ccscale.launch.submit, "submit", submit)
    out = tmp_path / "out"
    scored = out / "both-heads" / "seed=0.json"
    scored.parent.mkdir(parents=True)
    settings = load_config(config, ["seed=0", f"run={out}/both-heads/seed=0"]).model_dump(mode="json")
    scored.write_text(json.dumps({"config": settings}))
    launch = ["--launch", "--tasks-per-node 2"]
    assert benchmark.main(["heads", config, "--seeds", "0", "1", "--out", str(out), *launch]) == 0
    names = ["both-heads/seed=1"]
    names += [
        f"{name}/seed={seed}" for name in ("instance-head-k-means", "cluster-head-alone") for seed in (0, 1)
    ]
    assert seen == {
        "runs": [f"{out}/{n}" for n in names],
        "folder": out / "runs",
        "tasks": 2,
    }


def test_runs_that_are_not_scored_are_trained_here(config, tmp_path, monkeypatch):
    import ccscale.launch.local

    seen = []

    def train_here(config, count, *options):
        seen.append((config.run, count))
        return ccscale.launch.local.Ended(0, 1)

    monkeypatch.setattr(ccscale.launch.local, "train_here", train_here)
    out = tmp_path / "out"
    launch = ["--launch", "--cluster local --tasks-per-node 2"]
    assert benchmark.main(["heads", config, "--seeds", "0", "--out", str(out), *launch]) == 0
    assert sorted(seen) == [
        (f"{out}/{name}/seed=0", 2) for name in ("both-heads", "cluster-head-alone", "instance-head-k-means")
    ]


def test_a_signal_is_handed_on_to_the_cell(config, tmp_path, monkeypatch):
    script = tmp_path / "cell.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(benchmark, "CELL", script)
    (cell,) = benchmark.plan([Variant("a", config)], [0], tmp_path / "out")

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert benchmark.run_cell(cell) == 75
    thread.join()
