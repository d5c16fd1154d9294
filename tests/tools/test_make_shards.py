"""tools/make_shards.py as it is used: its output, its refusals, real photographs."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import unpack
from harness.pictures import make, samples

from ccscale.data.sources.kinds import open_source

TOOL = Path(__file__).parents[2] / "tools" / "make_shards.py"


def run_tool(*args) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_tool(pets, tmp_path):
    """Options may stand anywhere; the same command again has nothing to do; another one is refused."""
    done = run_tool("folder", pets, "--seed", 3, tmp_path / "out", "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["samples"], facts["rejected"]) == (32, 0)
    assert facts["classes"][2] == {
        "label": 2, "name": "eel", "id": "eel", "samples": {"test": 0, "train": 6, "val": 2}
    }  # fmt: skip
    assert "32 of 32 images" in done.stderr
    again = run_tool("--seed", 3, "folder", pets, tmp_path / "out", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout) | {"seconds": 0} == facts | {"seconds": 0}
    assert again.stderr == f"{tmp_path}/out already holds these shards: the same image names and options\n"
    other = run_tool("folder", pets, tmp_path / "out")
    assert other.returncode == 2
    assert other.stdout == ""
    assert other.stderr.startswith("error: ")
    assert len(other.stderr.splitlines()) == 1


@pytest.mark.slow
def test_tiny_imagenet_16(tmp_path):
    if "CCSCALE_DATA" not in os.environ:
        pytest.skip("CCSCALE_DATA is not set: no real Tiny-ImageNet here")
    with tarfile.open(Path(os.environ["CCSCALE_DATA"]) / "tiny-imagenet-16.tar.gz") as tar:
        unpack(tar, tmp_path)
    root = tmp_path / "tiny-imagenet-16"
    manifest = make(open_source("tiny-imagenet", root), tmp_path / "out", workers=2)
    assert {split: samples for split, (samples, _) in manifest.splits.items()} == {
        "train": 8000,
        "val": 800,
        "test": 20,
    }
    assert manifest.labelled == {"train": 8000, "val": 800, "test": 0}
    assert manifest.class_ids == tuple(sorted((root / "wnids.txt").read_text().split()))
    assert manifest.classes[0] == "goldfish"
    annotations = (root / "val/val_annotations.txt").read_text().splitlines()
    wnid_of = dict(line.split("\t")[:2] for line in annotations)
    for key, (split, ext, data, label) in samples(manifest).items():
        path = root / f"{key}.JPEG"
        wnid = {"train": path.parts[-3], "val": wnid_of.get(path.name), "test": None}[split]
        assert (None if label < 0 else manifest.class_ids[label]) == wnid
        assert ext == "jpg"
        assert data == path.read_bytes()
