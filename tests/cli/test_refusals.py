"""What is refused, verb by verb: exit code 2, one sentence, and nothing written; see the fixture `refused`."""

import shutil
from pathlib import Path

import pytest
from conftest import small_settings, write_config

from ccscale.errors import InputError
from ccscale.evaluate.evaluate import evaluate_run
from ccscale.report.report import report_run

NO_CHECKPOINT = "the run {tmp}/bare has no checkpoint yet; run `ccscale train` first$"
DAMAGED = "…the file model.safetensors of step-00000002 was changed or damaged"
NO_RUN = "{tmp}/none is not the folder of a run; `ccscale train CONFIG run="
NO_TABLE = "…must end in .parquet or .csv, or in / for a folder of parts"
PREDICT = "predict {run} --shards {shards}"

# A line, and its sentence up to "$"; without that, how it begins; after "…": what stands in it.
REFUSALS = [
    ("trian", "there is no command 'ccscale trian'; did you mean 'train'?$"),
    ("zzz", "there is no command 'ccscale zzz'; `ccscale --help` lists them$"),
    ("shards mak", "there is no command 'ccscale shards mak'; did you mean 'make'?$"),
    ("launch", "launch needs a CONFIG: a YAML file or a recipe (`ccscale config --recipes`)$"),
    ("launch digits --scripts x", "--scripts submits nothing: leave out CONFIG$"),
    # the config
    ("train {tmp}/none.yaml", "there is no config file {tmp}/none.yaml"),
    ("--local_rank=0 train {tmp}/none.yaml", "there is no config file"),  # DeepSpeed's launcher adds it
    ("train cifar-10", "there is no config file cifar-10; did you mean 'cifar10'"),
    (
        "train configs/folder.yml",
        "there is no config file configs/folder.yml; did you mean the recipe 'folder'?$",
    ),
    ("train {config}/digits", "there is no config file {config}/digits; did you mean the recipe 'digits'?$"),
    ("train a/../digits", "there is no config file a/../digits; did you mean the recipe 'digits'?$"),
    (
        "train zzz",
        "there is no config file zzz; `ccscale config --recipes` lists those that come with ccscale$",
    ),
    ("train {run}", "the config file {run} cannot be read: it is a folder: its config is {run}/config.yaml$"),
    (
        "train {config} train.lrr=1",
        "override 'train.lrr=1': there is no key 'train.lrr'; did you mean 'train.lr'",
    ),
    ("config {config} view.size=1", "…there is no key 'view'; did you mean 'views'"),
    ("config folder modle.clusters=3", "override 'modle.clusters=3': "),
    ("train {config} run=null", "the config has no key 'run': add run=DIR"),
    ("train folder run=null", "the config has no key 'run'"),
    ("train {config} train.device=cuda", "…there is no CUDA device here"),
    # the run's folder
    ("train {config} run={tmp}/other", "{tmp}/other is neither empty nor the folder of a run"),
    (
        "train {run}/config.yaml train.lr=0.1",
        "{run} contains a run with other settings: train.lr was 0.0003 and is now 0.1",
    ),
    # the network
    (
        "train {config} model.backbone=resnet35",
        "timm has no model 'resnet35' (model.backbone); did you mean 'resnet",
    ),
    ("train {config} model.weights=none.safetensors", "…there is no file none.safetensors"),
    # the data
    ("train folder-scratch run=x data.shards=/none", "there is no folder /none"),
    ("train {config} data.shards={tmp}/none", "there is no folder {tmp}/none; "),
    (
        "train {config} data.shards={tmp}/tars",
        "{tmp}/tars contains tars but no dataset.json: `ccscale shards index {tmp}/tars`",
    ),
    ("train {config} data.splits=[trian]", "…no split 'trian'; did you mean 'train'?"),
    ("train {config} train.global_batch=151", "…set train.global_batch to at most 150"),
    # a run that is looked at
    ("evaluate {tmp}/none", NO_RUN),
    ("predict {tmp}/none --shards x --out y.csv", NO_RUN),
    ("export {tmp}/none out", NO_RUN),
    ("report {tmp}/none", NO_RUN),
    ("evaluate {tmp}/bare", NO_CHECKPOINT),
    ("report {tmp}/bare", NO_CHECKPOINT),
    ("evaluate {tmp}/damaged", DAMAGED),
    ("predict {tmp}/damaged --shards x --out y.csv", DAMAGED),
    ("export {tmp}/damaged out", DAMAGED),
    ("evaluate {run} --split tset", "…no split 'tset'; it has train"),
    ("evaluate {run} --neighbours tset --workers 0", "…no split 'tset'"),
    ("predict {run} --shards {tmp}/none --out {tmp}/t.csv", "there is no folder {tmp}/none"),
    # where the result is to be
    (PREDICT + " --out {tmp}/table.txt", NO_TABLE),
    (PREDICT + " --out {tmp}/table", NO_TABLE),
    (PREDICT + " --out {tmp}/none/table.csv", "…none for table.csv; create it first"),
    ("report {run} --out {tmp}/none/report.html", "there is no folder"),
    ("export {run} {tmp}/other", "{tmp}/other already exists; choose a new folder$"),
]


@pytest.mark.parametrize(("line", "said"), REFUSALS, ids=[line for line, _ in REFUSALS])
def test_refused(line, said, refused, shards, run, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    for file in ("tars/a.tar", "other/thesis.tex"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes(bytes(1024))
    names = {
        "tmp": tmp_path,
        "shards": shards,
        "run": run,
        "config": write_config(tmp_path, small_settings(shards, tmp_path / "run")),
    }
    if "/damaged" in line:
        weights = shutil.copytree(run, tmp_path / "damaged") / "checkpoints/step-00000002/model.safetensors"
        data = weights.read_bytes()
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    if "/bare" in line:
        without = "checkpoints" if "report" in line else "step-*"
        shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns(without))
    message, expected = refused(*line.format(**names).split()), said.format(**names)
    if expected.endswith("$"):
        assert message == expected[:-1]
    else:
        assert message.startswith(expected) or (expected[0] == "…" and expected[1:] in message)


@pytest.mark.parametrize("call", [evaluate_run, report_run])
def test_fewer_workers_than_none(call, run: Path):
    with pytest.raises(InputError, match=r"^workers is -1: give 0 "):
        call(run, workers=-1)
