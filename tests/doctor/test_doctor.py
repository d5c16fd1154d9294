"""What of a machine works is told, and what does not with its remedy; nothing is left behind."""

import json
import os
import shutil
from importlib import metadata

import pytest
import torch

from ccscale.cli.main import main
from ccscale.device import cpu_has_bf16
from ccscale.doctor import places, ranks, software
from ccscale.doctor.devices import check_devices
from ccscale.doctor.doctor import examine
from ccscale.doctor.finding import Finding, tried


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_what_is_installed_is_new_enough():
    finding = only(software.check_versions())
    assert finding.state == "good"
    assert f"torch {metadata.version('torch')}" in finding.says


def test_an_old_or_missing_package_is_told_with_the_command(monkeypatch):
    def version(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "deepspeed" else metadata.version(name)

    monkeypatch.setattr(software, "version", version)
    wrong = {finding.what: finding for finding in software.check_versions() if finding.state == "wrong"}
    assert wrong.keys() == {"timm", "deepspeed"}
    assert "0.1 is installed, but ccscale needs >=" in wrong["deepspeed"].says
    assert wrong["timm"].remedy.startswith("pip install 'timm>=")


def test_a_compiler_is_only_noted(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert only(software.check_compiler()).state == "note"
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'no omp.h' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert "does not compile with OpenMP: no omp.h" in only(software.check_compiler()).says


def test_devices(monkeypatch, tmp_path):
    found = {finding.what: finding for finding in check_devices()}
    assert "core" in found["CPU"].says
    assert ("no bfloat16 (train here by train.precision=fp32)" in found["CPU"].says) != cpu_has_bf16()
    if torch.cuda.is_available():
        assert found["GPU 0"].state == "good"
        return
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    hidden = {finding.what: finding for finding in check_devices()}["GPU"]
    assert hidden.state == "wrong"
    assert "sees no GPU" in hidden.says


def test_the_disk_is_written_and_left_as_it_was(tmp_path, monkeypatch):
    disk, clock = places.check_disk(tmp_path / "runs" / "mine")
    assert disk.state in ("good", "note")
    assert clock.state == "good"
    assert list(tmp_path.iterdir()) == []
    assert "cannot be written" in only(places.check_disk("/proc/runs")).says
    full = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    monkeypatch.setattr(places, "EPOCH", 2**40)
    disk, clock = places.check_disk(tmp_path)
    assert (disk.state, clock.state) == ("note", "wrong")


def test_shards_are_reached(shards, tmp_path):
    assert "150 samples in 5 shards" in only(places.check_shards(str(shards))).says
    missing = only(places.check_shards(str(tmp_path)))
    assert missing.state == "wrong"
    assert "has no dataset.json" in missing.says


def test_a_check_that_fails_itself_is_wrong():
    def fails() -> list[Finding]:
        raise RuntimeError("no such thing")

    assert only(tried("x", fails, "do this")) == Finding(
        "x", "wrong", "RuntimeError: no such thing", "do this"
    )


def test_ranks_that_do_not_meet_are_told(monkeypatch):
    monkeypatch.setattr(ranks, "_start", lambda count: ({}, "connection refused"))
    assert "do not connect: connection refused" in only(ranks.check_ranks()).says
    monkeypatch.setattr(ranks, "_start", lambda count: ({"met": 0.1}, "no such release"))
    assert [finding.state for finding in ranks.check_ranks() if finding.what != "NCCL"] == ["good", "wrong"]


@pytest.mark.parametrize("state", ["note", "wrong"])
def test_the_command(state, monkeypatch, capsys):
    found = [Finding("disk", "good", "fine"), Finding("ranks", state, "hm", "do that")]
    monkeypatch.setattr("ccscale.doctor.doctor.examine", lambda *arguments: iter(found))
    assert main(["doctor", "--json"]) == (state == "wrong")
    assert json.loads(capsys.readouterr().out) == {
        "ok": state != "wrong",
        "findings": [finding.as_json() for finding in found],
    }
    assert main(["doctor"]) == (state == "wrong")
    out = capsys.readouterr().out
    assert "ok    disk: fine" in out
    assert "do that" in out
    assert ("training cannot run here: ranks" in out) == (state == "wrong")


@pytest.mark.dist
@pytest.mark.slow
def test_ranks_meet_and_train():
    states = {finding.what: finding for finding in examine() if finding.what in ("2 ranks", "DeepSpeed")}
    assert [finding.state for finding in states.values()] == ["good", "good"], states
