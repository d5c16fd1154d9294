"""An exported network is the network, bit for bit; what is damaged is refused in a sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ccscale
from ccscale.config import Model, Views
from ccscale.errors import InputError
from ccscale.model.export import CONFIG, WEIGHTS, copy_export, export, load
from ccscale.model.network import ContrastiveClustering

SIZE = 32
FACTS = {"step": 12, "epoch": 3, "data": "pets", "classes": ["Katze", "größter Hund"]}


def make(folder: Path, size: int = SIZE, **settings) -> ContrastiveClustering:
    """Export a network whose batch norms have seen something; return it."""
    model = Model(**({"backbone": "test_resnet", "clusters": 4, "stem": "small"} | settings))
    torch.manual_seed(7)
    network = ContrastiveClustering(model, size)
    network(torch.rand(8, 3, size, size))
    folder.mkdir(exist_ok=True)
    export(folder, model, Views(size=size), network.state_dict(), FACTS)
    return network.eval()


@pytest.fixture
def out(tmp_path) -> Path:
    make(tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalize": True, "embedding": 9},
        {"backbone": "test_vit", "stem": "standard"},
        {"backbone": "test_efficientnet"},
    ],
    ids=lambda settings: settings.get("backbone", "test_resnet"),
)
def test_round_trip(tmp_path, settings):
    before = make(tmp_path, **settings)
    after = ccscale.load(tmp_path)
    assert not after.training
    assert (after.size, after.settings) == (SIZE, before.settings)
    state = after.state_dict()
    assert state.keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(state[name], value), name
        assert state[name].dtype == value.dtype
    x = torch.rand(5, 3, SIZE, SIZE)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(before(x), after(x), strict=True))


def test_what_is_written(out):
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    content = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("ccscale-model", 1)
    assert content["image"] == {"size": SIZE, "scaled_decode": True}
    assert content["model"]["backbone"] == "test_resnet"
    assert {name: content[name] for name in FACTS} == FACTS
    assert load_file(out / WEIGHTS)["backbone.bn1.running_mean"].abs().sum() > 0


def test_tensors_that_share_memory_are_written_apart(tmp_path):
    """safetensors refuses a tensor that has two names."""
    model = Model(backbone="test_resnet", clusters=4)
    weights = ContrastiveClustering(model, SIZE).state_dict()
    weights["cluster_head.layers.0.weight"] = weights["instance_head.layers.0.weight"]
    export(tmp_path, model, Views(size=SIZE), weights, {})
    state = load(tmp_path).state_dict()
    assert all(torch.equal(state[name], value) for name, value in weights.items())


def test_first_weights_are_not_asked_for_again(tmp_path):
    """The file that training began with need not be there any more."""
    first = tmp_path / "first.safetensors"
    backbone = ContrastiveClustering(Model(backbone="test_resnet", clusters=2), SIZE).backbone
    save_file(backbone.state_dict(), first)
    model = Model(backbone="test_resnet", clusters=2, weights=str(first))
    network = ContrastiveClustering(model, SIZE)
    first.unlink()
    pretrained = model.model_copy(update={"pretrained": True})
    export(tmp_path, pretrained, Views(size=SIZE), network.state_dict(), {})
    state = load(tmp_path).state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_missing_file(out, name):
    (out / name).unlink()
    with pytest.raises(InputError) as caught:
        load(out)
    message = str(caught.value)
    assert message.startswith("there is no ")
    assert name in message
    assert message.endswith("create it with `ccscale export RUN OUT`")


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*/none/config.json"):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\x00", b'{"format": "ccscale-model", "version": 1}', b"[1, 2]", b"null"]
)
def test_damaged_config(out, data):
    (out / CONFIG).write_bytes(data)
    with pytest.raises(InputError) as caught:
        load(out)
    assert str(out) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 2), ("format", "another"), ("model", {"clusters": 1}), ("image", {}), ("image", 3)],
)
def test_config_of_another_kind(out, key, value):
    content = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    (out / CONFIG).write_text(json.dumps(content | {key: value}))
    with pytest.raises(InputError) as caught:
        load(out)
    message = str(caught.value)
    assert "\n" not in message
    if key == "version":
        assert message == f"{out / CONFIG} has version 2 and this ccscale reads version 1: upgrade ccscale"
    elif key == "format":
        assert message.startswith(f"{out / CONFIG} is not the config of an exported network; create one")
    else:
        assert message.startswith(f"the exported network in {out} cannot be read: ")


def test_damaged_weights(out):
    data = (out / WEIGHTS).read_bytes()
    for damaged in (b"", data[:1000], data[:-100]):
        (out / WEIGHTS).write_bytes(damaged)
        with pytest.raises(InputError, match=f"the exported network in {out} cannot be read: ") as caught:
            load(out)
        assert "\n" not in str(caught.value)


def test_weights_of_another_network(out):
    weights = load_file(out / WEIGHTS)
    name = "cluster_head.layers.2.weight"
    for wrong in (
        weights | {name: torch.zeros(5, 96)},
        {key: value for key, value in weights.items() if key != name},
    ):
        save_file(wrong, out / WEIGHTS)
        with pytest.raises(
            InputError, match=f"does not hold the network of its config.json: '{name}' differs"
        ):
            load(out)
    save_file(weights | {"a.stranger": torch.zeros(1)}, out / WEIGHTS)
    with pytest.raises(InputError, match=r"'a\.stranger' differs"):
        load(out)


class TestCopy:
    def test_copy(self, out, tmp_path):
        (out / "COMMIT.json").write_text("{}")
        copy_export(out, tmp_path / "deep" / "copy")
        assert sorted(path.name for path in (tmp_path / "deep" / "copy").iterdir()) == [CONFIG, WEIGHTS]
        for name in (CONFIG, WEIGHTS):
            assert (tmp_path / "deep" / "copy" / name).read_bytes() == (out / name).read_bytes()

    def test_over_something(self, out, tmp_path):
        (tmp_path / "file").write_text("precious")
        for taken in (out, tmp_path / "file"):
            with pytest.raises(InputError, match="already exists; choose a new folder"):
                copy_export(out, taken)
        assert (tmp_path / "file").read_text() == "precious"
        with pytest.raises(InputError, match="cannot be written: Not a directory"):
            copy_export(out, tmp_path / "file" / "below")
