"""A step on many ranks on paper: what is hidden behind what, by its command and by figures worked out by hand."""

import json
from dataclasses import replace

import pytest
from conftest import small_settings, write_config
from PIL import Image

from ccscale.cli.main import main
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.plan import scaling
from ccscale.plan.links import Links
from ccscale.plan.scaling import simulate
from ccscale.plan.step_parts import StepParts, scaled_config
from ccscale.plan.step_timeline import StepTimeline

PARTS = StepParts("a GPU", 4, *[1.0] * 10, host=0.5)
FREE = Links(inside=1e30, card=1e30, call=0, hop_inside=0, hop_between=0, hop_gloo=0)


def settings(shards: str = "nowhere", **train: object) -> Config:
    return parse_config(
        small_settings(shards, "nowhere") | {"train": {"global_batch": 16, **train}}, ["train.device=cpu"]
    )


def test_what_travels_is_hidden_until_it_is_waited_for():
    timeline = StepTimeline()
    first, second = timeline.begin("a", 2.0), timeline.begin("b", 2.0)  # one after the other
    timeline.work("c", 3.0)
    timeline.wait("a", first)
    timeline.wait("b", second)
    timeline.send("a", 1.0)
    assert timeline.now == 5.0
    assert (timeline.sent, timeline.waited) == ({"a": 3.0, "b": 2.0}, {"a": 1.0, "b": 1.0})


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_where_sending_costs_nothing_only_the_losses_grow(zero):
    config = settings(zero=zero)
    for size in simulate(config, PARTS, FREE, [1, 2, 8, 16]):
        optimizer = 1 if zero == 0 else 1 / size.ranks
        columns = max(1.0, min(size.ranks, 2 * config.model.clusters / 4))
        losses = 2 + 2 * size.ranks + 2 * columns
        assert size.losses == pytest.approx(losses)
        assert size.seconds == pytest.approx(3 + optimizer + losses)
        assert size.efficiency == size.if_hidden
        assert (size.nodes, size.global_batch) == (1 + (size.ranks > 8), 4 * size.ranks)
        assert size.hidden == pytest.approx(0)


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_gradients_are_waited_for_and_rows_are_hidden(monkeypatch, zero):
    monkeypatch.setattr(scaling, "SMALL_BUCKET", 100_000)
    config = settings(zero=zero)
    slow = replace(FREE, inside=1e5)
    (size,) = simulate(config, PARTS, slow, [4])
    sent = {entry.what: entry for entry in size.sent}
    waited, travels = size.timeline.waited, size.timeline.sent
    gradients = 2 * 3 / 4 * sent["gradients"].bytes / 1e5
    assert waited["gradients"] == pytest.approx(gradients) == travels["gradients"]
    assert waited["batch norm, forward"] == pytest.approx(travels["batch norm, forward"])
    assert waited["instance loss"] < travels["instance loss"]
    assert waited["cluster loss"] == 0 < travels["cluster loss"]
    assert size.if_hidden > size.efficiency
    assert size.as_json()["timeline"][-1]["end"] == pytest.approx(size.seconds)


def test_rows_of_a_ring_are_hidden_behind_each_block():
    ring = parse_config(settings().model_dump(mode="json"), ["loss.ring_bytes=1"])
    (size,) = simulate(ring, PARTS, replace(FREE, inside=1e9), [4])
    assert size.timeline.waited["instance loss"] < 0.3 * size.timeline.sent["instance loss"]


def test_a_slow_host_holds_its_gpu_up():
    (size,) = simulate(settings(), replace(PARTS, host=100.0), FREE, [8])
    assert size.seconds == size.host == 100.0


def test_micro_batches_are_as_many_at_each_size():
    config = scaled_config(settings(micro_batch=4), 32)
    assert (config.train.micro_batch, config.micro_batches) == (8, 4)


def test_by_its_command(tmp_path, capsys, shards):
    config, parts = write_config(tmp_path, small_settings(shards, tmp_path / "run")), tmp_path / "parts.json"
    parts.write_text(json.dumps({"parts": PARTS.as_json(), "links": {}}))
    command = ["plan", str(config), "--cluster", "--parts", str(parts)]
    assert main([*command, "--sizes", "8", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"] == PARTS.as_json()
    assert [size["ranks"] for size in found["sizes"]] == [8, 16]
    assert found["sizes"][1]["efficiency"] < found["sizes"][0]["efficiency"] < 1
    picture = tmp_path / "steps.png"
    assert main([*command, "--hop-gloo", "1e8", "--picture", str(picture)]) == 0
    with Image.open(picture) as drawn:
        assert len(drawn.getcolors(2**20) or ()) > 8
    assert "from 8 GPUs on, the host is slower than its GPU" in " ".join(capsys.readouterr().out.split())


def test_refused(refused, tmp_path, shards):
    config, parts = write_config(tmp_path, small_settings(shards, tmp_path / "run")), tmp_path / "parts.json"
    command = ["plan", config, "--cluster", "--parts", parts]
    assert "cannot be read" in refused(*command)
    parts.write_text('{"images": 4}')
    assert "does not hold the parts of a step" in refused(*command)
    parts.write_text(json.dumps(PARTS.as_json()))
    assert refused(*command, "--nvlink", "0") == "--nvlink must be above 0"
    assert "12 ranks do not fill machines of 8" in refused(*command, "--sizes", "12")
    assert "leave out --images-per-gpu" in refused(*command, "--images-per-gpu", "5")
