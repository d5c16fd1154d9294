"""The plan of a run against what was measured: the losses, the network, whole steps; what divides and what fits."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import small_settings, write_config
from harness.ranks import run_ranks
from measure import counted_traffic, peak_bytes
from torch import Tensor

from ccscale.checkpoint.snapshot import take_snapshot
from ccscale.cli.main import main
from ccscale.config import Config, LossName
from ccscale.config.file import parse_config
from ccscale.data.images.views import draw_views
from ccscale.data.order.run import make_schedule
from ccscale.data.pairs import PairBatch
from ccscale.data.read_ahead import REQUEST_BYTES
from ccscale.data.shards.manifest import Manifest
from ccscale.engine.build import build_engine
from ccscale.loss import tiles
from ccscale.model.network import ContrastiveClustering
from ccscale.plan.fit import check_division, largest_batch, with_batch
from ccscale.plan.loss_cost import measure_losses
from ccscale.plan.network_cost import Network
from ccscale.plan.rank import RankPlan, passed_views
from ccscale.plan.reading import plan_loading, read_data
from ccscale.train.garbage import collect_by_hand
from ccscale.train.loop import Trainer
from ccscale.train.step import Stepper, take_losses
from ccscale.train.train import train_run

LOSSES_TAKEN: list[tuple[int, dict[str, Any], tuple[LossName, ...]]] = [  # N, what else is set, by which
    (64, {}, ("instance",)),
    (1024, {}, ("instance",)),
    (3000, {"d": 64}, ("instance",)),  # tiles with an edge
    (3000, {"d": 64, "temperature": 0.01}, ("instance",)),  # with running maxima
    (2000, {"ring": 0}, ("instance",)),  # in a ring
    (200, {"temperature": 0.01, "ring": 0}, ("instance",)),
    (512, {"k": 10}, ("cluster",)),  # from products, in one strip
    (512, {"k": 200}, ("cluster",)),
    (1200, {"k": 600}, ("cluster",)),
    (2400, {"k": 1100}, ("cluster",)),  # in several
    (64, {"k": 1000}, ("cluster",)),  # from gathered columns
    (512, {"k": 300}, ("cluster",)),
    (512, {"k": 10}, ("instance", "cluster")),
    (512, {"k": 200}, ("instance", "cluster")),
    (256, {"k": 400}, ("instance", "cluster")),
]
COLLECTIVES = {"all_gather_single": "all_gather", "all_gather_into_tensor": "all_gather"}


def by_collective(count: Counter[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, payload in count.items():
        found[COLLECTIVES.get(name, name)] += payload
    return dict(found)


def losses_config(
    images: int, d: int = 128, k: int = 10, temperature: float = 0.5, ring: int = 2**30
) -> Config:
    return parse_config(
        {
            "data": {"shards": "nowhere"},
            "model": {"clusters": k, "embedding": d},
            "loss": {"instance_temperature": temperature, "ring_bytes": ring},
            "train": {"global_batch": images},
        }
    )


def losses_on_rank(rank: int, world: int) -> list[tuple[int, dict[str, int]]]:
    """Return the peak and the traffic of both passes of the losses, for each of `LOSSES_TAKEN`."""
    generator, found = torch.Generator().manual_seed(rank), []
    for images, settings, by in LOSSES_TAKEN:
        config = losses_config(images, **settings)
        widths = config.model.embedding, config.model.clusters
        z, p = (torch.randn(2 * images // world, width, generator=generator) for width in widths)
        z, p = F.normalize(z, dim=1).requires_grad_(), p.softmax(dim=1).requires_grad_()

        def both_passes(config: Config = config, z: Tensor = z, p: Tensor = p, by: Any = by) -> None:
            take_losses(config.loss, z, p, by).loss.backward()

        with counted_traffic() as count:
            peak = peak_bytes(both_passes)
        found.append((peak, by_collective(count)))
    return found


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 2])
def test_losses_take_and_send_what_is_planned(world):
    for of_rank in run_ranks(world, losses_on_rank, world):
        for what, (peak, sent) in zip(LOSSES_TAKEN, of_rank, strict=True):
            images, settings, by = what
            cost = measure_losses(losses_config(images, **settings), world, False, by)
            assert cost.peak == pytest.approx(peak, rel=0.05), what
            assert dict(cost.sent) == sent, what
            assert bool(sent) == (world > 1), what


@pytest.mark.parametrize(
    ("images", "settings"),
    [
        (18_000, {}),
        (18_000, {"temperature": 0.01}),
        (18_000, {"temperature": 0.01, "ring": 0}),
        (6_000, {"k": 4096}),
    ],
)
def test_what_is_alike_is_taken_a_few_times_alone(images, settings):
    config = losses_config(images, **settings)
    for by in (["instance"], ["cluster"]):
        assert measure_losses(config, 6, False, by) == measure_losses(config, 6, False, by, few=1000)


def test_a_gpu_takes_larger_tiles():
    config = losses_config(8192)
    cpu, gpu = (measure_losses(config, 1, cuda, ["instance"]) for cuda in (False, True))
    side = 8192**2 - 1024**2, 8192 - 1024  # two of each are held: tiles, and numbers for a side of one
    assert gpu.peak - cpu.peak == 2 * 4 * sum(side)
    assert gpu.sent == cpu.sent
    assert tiles.CPU_TILE == 1024  # as it was


NETWORKS = [("resnet18", "fp32"), ("resnet18", "bf16"), ("vit_tiny_patch16_224", "fp32")]


def network_config(backbone: str = "resnet18", precision: str = "fp32") -> Config:
    return parse_config(
        {
            "data": {"shards": "nowhere"},
            "views": {"size": 64},
            "model": {"backbone": backbone, "clusters": 10},
            "train": {"global_batch": 32, "precision": precision},
        }
    )


def network_on_rank(rank: int) -> list[int]:
    """Return the peak of a real forward and backward pass, gradients counted, of each of `NETWORKS`."""
    found = []
    for backbone, precision in NETWORKS:
        network = ContrastiveClustering(network_config(backbone).model, 64).to(
            memory_format=torch.channels_last
        )
        x = torch.rand(32, 3, 64, 64)

        def both_passes(network: Any = network, x: Tensor = x, precision: str = precision) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = network(x.contiguous(memory_format=torch.channels_last))
            (outputs.embeddings.sum() + outputs.assignments.sum()).backward()

        found.append(peak_bytes(both_passes))
    return found


@pytest.mark.dist
@pytest.mark.parametrize("world", [1, 2])
def test_network_takes_what_is_planned_without_numbers(world):
    measured, *_ = run_ranks(world, network_on_rank)
    for (backbone, precision), peak in zip(NETWORKS, measured, strict=True):
        network = Network(network_config(backbone, precision), world, "cpu")
        cost, there = network.measure(32), network.measure(64)
        assert cost.most_with_gradients == pytest.approx(peak, rel=0.1), (backbone, precision)
        assert cost.kept < cost.most < cost.most_with_gradients
        assert cost.scaled(there, 128).kept == pytest.approx(network.measure(128).kept, rel=0.01)
        if backbone == "resnet18":
            assert cost.weights == 11_176_512 + 2 * (512 * 512 + 512) + 512 * 128 + 128 + 512 * 10 + 10
            assert (cost.gathered, cost.summed) == (
                (world * 2 * 4 * 4800, 2 * 4 * 4800) if world > 1 else (0, 0)
            )


def test_parameters_that_are_not_trained():
    """timm fixes four of this one's where it has no classifier."""
    network = Network(network_config("efficientvim_m1"), 1, "cpu")
    assert network.measure(2).most_with_gradients > network.measure(2).most > 0


STEPS = [  # ZeRO stage, micro-batches, clip
    (0, 1, None),
    (1, 1, None),
    (2, 1, 1.0),
    (0, 2, 1.0),
    (1, 2, None),
    (2, 2, None),
]


def step_config(zero: int, micro_batches: int, clip: float | None) -> Config:
    return parse_config(
        {
            "data": {"shards": "nowhere"},
            "views": {"size": 48, "blur": 0.5, "blur_kernel": 3},
            "model": {"backbone": "resnet18", "clusters": 5},
            "train": {
                "global_batch": 32,
                "micro_batch": 32 // micro_batches,
                "zero": zero,
                "clip": clip,
                "device": "cpu",
            },
        }
    )


def steps_on_rank(rank: int, world: int) -> list[tuple[dict[str, int], int, int]]:
    """Return the traffic of a second step, the most memory that one took, and a checkpoint's, for each of `STEPS`.

    Of three steps the one that took least: what DeepSpeed holds while it averages depends on how far the ranks
    happen to be apart.
    """
    with counted_traffic() as count:  # DeepSpeed looks the collectives up once in a process
        return [one_step(world, step_config(*step), count) for step in STEPS]


def one_step(world: int, config: Config, count: Counter[str]) -> tuple[dict[str, int], int, int]:
    n, size, device = config.train.global_batch // world, config.views.size, torch.device("cpu")
    images = torch.randint(256, (2, n, size, size, 3), dtype=torch.uint8)
    batch = PairBatch(0, images, draw_views(config.views, 0, 0, np.arange(n)).colour, (0, 0), ())
    engine = build_engine(config, ContrastiveClustering(config.model, size), device)
    stepper = Stepper(config, engine, device)
    stepper.take(batch)
    count.clear()
    stepper.take(batch)
    sent = by_collective(count)
    with collect_by_hand():  # as the loop does it: what is in cycles stays for the step
        peak = min(peak_bytes(lambda: stepper.take(batch)) for _ in range(3))
    snapshot = take_snapshot(engine, {})
    return sent, peak, sum(tensor.nbytes for state in snapshot.values() for tensor in state.tensors)


def agreement_of(rank: RankPlan) -> int:
    """Return what is planned for the loop's agreement at a step's end."""
    (entry,) = (entry for entry in rank.sent if entry.what == "agreement at the end")
    assert entry.collective == "all_reduce"
    return entry.bytes


def agreements_on_rank(rank: int, settings: dict[str, Any]) -> list[dict[str, int]]:
    """Train; return what each step's agreement sent."""
    agree, found = Trainer.agree, []
    with counted_traffic() as count:

        def counted(*arguments: Any) -> Any:
            count.clear()
            agreed = agree(*arguments)
            found.append(by_collective(count))
            return agreed

        with mock.patch.object(Trainer, "agree", counted):
            train_run(parse_config(settings))
    return found


@pytest.mark.dist
def test_the_ranks_agree_by_what_is_planned(shards, tmp_path):
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2)
    config = parse_config(settings)
    rank = RankPlan(config, 2, Network(config, 2, "cpu").measure(passed_views(config, 2)), cuda=False)
    for found in run_ranks(2, agreements_on_rank, settings):
        assert found == [{"all_reduce": agreement_of(rank)}] * 2


@pytest.mark.dist
@pytest.mark.slow
def test_a_step_takes_and_sends_what_is_planned():
    first, second = run_ranks(2, steps_on_rank, 2)
    for (zero, micro_batches, clip), (sent, peak, checkpoint), (others, *_) in zip(
        STEPS, first, second, strict=True
    ):
        config, what = (
            step_config(zero, micro_batches, clip),
            f"ZeRO {zero}, {micro_batches} micro-batches, clip {clip}",
        )
        rank = RankPlan(config, 2, Network(config, 2, "cpu").measure(passed_views(config, 2)), cuda=False)
        planned = rank.traffic - Counter(all_reduce=agreement_of(rank))  # that is the loop's
        assert others == sent
        assert planned == sent, what
        lasting = ("parameters", "master weights", "Adam's moments", "images")  # were there before the step
        before = sum(rank.memory[part][0] for part in lasting if part in rank.memory)
        assert rank.peak - before == pytest.approx(peak, rel=0.1), what
        assert rank.checkpoint == pytest.approx(checkpoint, rel=0.001), what


def division(world: int, **keys: Any) -> str:
    """Return the sentence that refuses a number of ranks."""
    train = {key: value for key, value in keys.items() if key != "lanes"}
    data = {"shards": "x"} | ({"lanes": keys["lanes"]} if "lanes" in keys else {})
    with pytest.raises(ValueError) as error:
        check_division(parse_config({"data": data, "model": {"clusters": 2}, "train": train}), world)
    return str(error.value)


class TestDivision:
    def test_ranks_that_do_not_divide_the_lanes(self):
        assert division(6, global_batch=256) == (
            "6 ranks do not divide the 64 lanes of this run; the nearest that do are 4 or 8, or keep 6 ranks and "
            "set train.global_batch=240 or train.global_batch=270"
        )

    @pytest.mark.parametrize("batch", [240, 270])
    def test_the_batches_that_it_names_do(self, batch):
        config = parse_config(
            {"data": {"shards": "x"}, "model": {"clusters": 2}, "train": {"global_batch": batch}}
        )
        check_division(config, 6)

    def test_more_ranks_than_lanes_by_default(self):
        assert division(128, global_batch=1024).endswith(
            "the nearest that do are 64, or keep 128 ranks and set data.lanes=128"
        )

    def test_lanes_of_the_config(self):
        assert "set data.lanes=18 with train.global_batch=18" in division(6, global_batch=16, lanes=16)

    def test_a_micro_batch(self):
        assert division(4, global_batch=64, micro_batch=2) == (
            "4 ranks do not divide train.micro_batch 2; the nearest that they divide are 4"
        )

    def test_the_largest_batch_is_one_that_divides(self):
        config = network_config()  # a global batch of 32

        def fits(other: Config) -> bool:
            return other.train.global_batch <= 255

        assert largest_batch(config, 4, fits) == 224  # a multiple of the 32 lanes that it has
        assert largest_batch(with_batch(config, 60, None), 6, fits) == 240
        assert largest_batch(with_batch(config, 264, None), 4, fits) == 176  # 220 has 55 lanes, 176 has 44
        assert largest_batch(with_batch(config, 48, None), 6, fits) == 240  # 192 has 64 lanes, 144 has 48
        assert largest_batch(config, 4, fits, most=30) == 28
        assert largest_batch(config, 6, lambda other: False) is None


class TestReading:
    def test_what_a_rank_reads(self, shards, tmp_path):
        settings = small_settings(
            shards, tmp_path / "run", data__lanes=4, data__piece=30, train__max_steps=11
        )
        config = parse_config(settings)
        reading, why = read_data(config, 2)
        assert why is None
        manifest = Manifest.load(shards)
        sizes = [shard.nsamples for shard in manifest.shards]
        assert (reading.images, reading.shards) == (150, len(sizes))
        assert (reading.steps_per_epoch, reading.dropped, reading.steps) == (9, 6, 11)
        order = make_schedule(config, manifest.shards, 1).order(0)
        samples = np.concatenate([order.batch(step, range(2)) for step in range(9)])
        homes = np.repeat(np.arange(len(sizes)), sizes)[samples]
        assert reading.rank_shards == len(set(homes.tolist())) < len(sizes)

    def test_the_loader(self, tmp_path):
        config = parse_config(small_settings(tmp_path, tmp_path, data__workers=None, data__lanes=8))
        loading = plan_loading(config, 2, cpus=16)
        assert (loading.workers, loading.lanes, loading.blocks) == (4, 4, 0)  # a worker has a lane at least
        assert loading.batches == (2 + 4) * 2 * 8 * 16 * 16 * 3
        remote = config.model_copy(update={"data": config.data.model_copy(update={"shards": "s3://b/x"})})
        assert plan_loading(remote, 2, cpus=3).blocks == 2 * 4 * config.data.block_bytes + 2 * REQUEST_BYTES


class TestCommand:
    @pytest.fixture
    def config(self, shards, tmp_path) -> Path:
        return write_config(tmp_path, small_settings(shards, tmp_path / "run"))

    def test_json(self, config, capsys, tmp_path):
        assert main(["plan", str(config), "--nodes", "2", "--gpus-per-node", "2", "--json"]) == 0
        out, err = capsys.readouterr()
        plan = json.loads(out)
        assert err == ""
        assert (plan["ranks"], plan["images_per_rank"], plan["lanes"]) == (4, 4, 16)
        assert plan["memory"]["parameters"]["step"] >= 4 * plan["parameters"]
        assert (
            plan["peak"]
            == max(plan["total"].values())
            == max(sum(part[moment] for part in plan["memory"].values()) for moment in plan["total"])
        )
        assert plan["sent_by_collective"]["all_reduce"] == sum(
            entry["bytes"] for entry in plan["sent"] if entry["collective"] == "all_reduce"
        )
        assert plan["data"]["steps_per_epoch"] == 9
        assert plan["largest_global_batch"] <= 150  # all images of the data
        assert plan["fits"] is True
        assert not (tmp_path / "run").exists()

    def test_table(self, config, capsys):
        assert main(["plan", "--gpus-per-node", "2", str(config), "train.zero=1"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert lines[0].startswith("1 × 2 = 2 ranks, 8 of 16 images each; test_resnet (")
        assert "master weights" in out
        assert "batch norm, backward" in out
        assert any(line.startswith("150 images in 5 shards, of which a rank reads 5") for line in lines)
        assert lines[-1].startswith("fits: a rank takes ")

    def test_one_rank(self, config, capsys):
        assert main(["plan", str(config)]) == 0
        assert "One rank alone sends nothing." in capsys.readouterr().out

    def test_what_does_not_fit_is_told_with_what_does(self, config, capsys):
        command = ["plan", str(config), "--gpus-per-node", "2", "views.size=64", "train.device=auto"]
        main([*command, "--json"])
        needed = json.loads(capsys.readouterr().out)["peak"]
        command += ["--gpu-memory", str((needed - 1_000_000) / 1e9)]
        assert main([*command, "--json"]) == 1
        plan = json.loads(capsys.readouterr().out)
        assert plan["fits"] is False
        assert plan["peak"] == needed
        assert plan["available"] == needed - 1_000_000
        remedies = plan["remedies"]
        assert [remedy.partition("=")[0] for remedy in remedies] == [
            "train.micro_batch",
            "train.global_batch",
        ]
        assert remedies[0] == "train.micro_batch=8"
        for remedy in remedies:
            assert main([*command, remedy]) == 0, remedy
            capsys.readouterr()
        assert main(command) == 1
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("does not fit: a rank takes ")
        assert last.endswith(f"; set {' or '.join(remedies)}")

    def test_without_the_data(self, config, capsys, tmp_path):
        assert main(["plan", str(config), f"data.shards={tmp_path}/none", "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["data"] is None
        (note,) = (note for note in plan["notes"] if "cannot be read" in note)
        assert f"there is no folder {tmp_path}/none" in note

    def test_refused(self, refused, config):
        assert refused("plan", config, "--gpus-per-node", "3").startswith(
            "3 ranks do not divide the 16 lanes"
        )
        assert "do not fill a global batch of 512" in refused("plan", config, "train.global_batch=512")
        assert refused("plan", config, "--nodes", "0") == "--nodes must be above 0"
        assert refused("plan", config, "--gpu-memory", "0") == "--gpu-memory must be above 0"
        assert "timm has no model 'resnet35'" in refused("plan", config, "model.backbone=resnet35")
        assert "has no split 'trian'" in refused("plan", config, "data.splits=[trian]")
