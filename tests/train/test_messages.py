"""What training tells of itself as it starts."""

from types import SimpleNamespace

import pytest
import torch
from conftest import small_settings

from ccscale.config.file import parse_config
from ccscale.data.order.run import last_step, make_schedule
from ccscale.train.messages import describe_resume, describe_run

CPU = torch.device("cpu")


class TestRun:
    def lines(self, shards, manifest, *overrides: str, device: torch.device = CPU) -> list[str]:
        config = parse_config(small_settings(shards, shards / "none"), overrides)
        schedule = make_schedule(config, manifest.select(config.data.splits), 1)
        return list(describe_run(config, manifest, schedule, device, last_step(config, schedule)))

    def test_device_images_and_steps(self, shards, manifest):
        threads = torch.get_num_threads()
        assert self.lines(shards, manifest) == [
            f"training on 1 rank: the CPU, {threads} thread{'s' if threads > 1 else ''}",
            "folder: 150 images of train; 9 steps of 16 images an epoch, 2 epochs: 18 steps",
        ]

    @pytest.mark.parametrize(
        ("precision", "machine", "says"),
        [("bf16", "x86_64", True), ("bf16", "aarch64", False), ("fp32", "x86_64", False)],
    )
    def test_a_cpu_without_bfloat16(self, shards, manifest, monkeypatch, precision, machine, says):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
        monkeypatch.setattr("torch.ops.mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True))
        monkeypatch.setattr("platform.machine", lambda: machine)
        lines = self.lines(shards, manifest, f"train.precision={precision}")
        assert (len(lines) == 3) == says
        assert ("this CPU has no instructions for bfloat16" in lines[1]) == says

    def test_a_run_that_is_cut_short(self, shards, manifest):
        overrides = ["train.max_steps=7", "train.epochs=1000"]
        assert self.lines(shards, manifest, *overrides)[1].endswith(
            "1,000 epochs: 9,000 steps, of which train.max_steps takes 7"
        )

    def test_phases(self, shards, manifest):
        phases = "data.phases=[{splits: train, losses: instance}, {splits: train}]"
        assert self.lines(shards, manifest, phases)[1] == (
            "folder: 150 images of train; 18 steps of 16 images an epoch in 2 phases, 2 epochs: 36 steps"
        )

    def test_that_no_gpu_is_found(self, shards, manifest):
        assert self.lines(shards, manifest, "train.device=auto")[0].endswith(" (torch sees no CUDA device)")

    def test_gpus(self, shards, manifest, monkeypatch):
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA H100")
        gpu = torch.device("cuda", 0)
        (line, _) = self.lines(shards, manifest, device=gpu)
        assert line == "training on 1 rank: one NVIDIA H100, convolutions of float32 in TF32"
        monkeypatch.setattr("ccscale.dist.world", lambda: 8)
        (line, _) = self.lines(shards, manifest, device=gpu)
        assert line == "training on 8 ranks: one NVIDIA H100 each, convolutions of float32 in TF32"


def test_where_a_run_goes_on():
    assert describe_resume(6, 28, False) == "going on from step 6 of 28"
    assert describe_resume(0, 28, True) == (
        "going on from step 0 of 28: its first checkpoint was cut off while it was being saved"
    )
    assert describe_resume(28, 28, False) == "going on from step 28 of 28: there is nothing left to do"
    assert (
        describe_resume(42, 28, False)
        == "step 42 is done, and the run ends at 28: there is nothing left to do"
    )
