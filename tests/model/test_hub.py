"""A network goes to the Hub and comes back, by Hugging Face's own client and a stand-in of the Hub."""

import json
import os
import subprocess
import sys

import pytest
import torch
from harness.hub import TOKEN, serve_hub
from harness.pictures import picture
from huggingface_hub import constants

import ccscale
from ccscale.cli.main import main
from ccscale.errors import Fault, InputError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, in place of the Hub, with an empty cache."""
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def exported(run, tmp_path):
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_there_and_back(hub, exported, capsys, tmp_path, monkeypatch):
    (exported / "secret.txt").write_text("no part of an export")
    assert main(["push", str(exported), "me/animals", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    (commit,) = hub.repos["me/animals"]
    assert (told["repo"], told["commit"]) == ("me/animals", commit)
    assert set(hub.repos["me/animals"][commit]) == {"README.md", "config.json", "model.safetensors"}

    network = ccscale.load("hf://me/animals")
    assert network.origin == f"hf://me/animals@{commit}"
    images = torch.rand(2, 3, network.size, network.size)
    assert all(map(torch.equal, network.predict(images), ccscale.load(exported).predict(images)))
    asked = len(hub.requests)
    assert ccscale.load(network.origin).origin == network.origin
    assert len(hub.requests) == asked  # a commit's hash is not asked for again
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ccscale.load("hf://me/animals").origin == network.origin
    picture(1).save(tmp_path / "a.png")
    for name in ("hf://me/animals", str(exported)):
        arguments = ["--images", str(tmp_path / "a.png"), "--workers", "0", "--out", str(tmp_path / "p.csv")]
        assert main(["predict", name, *arguments]) == 0
        (tmp_path / "p.csv").rename(tmp_path / f"{len(name)}.csv")
    one, two = (path.read_text() for path in tmp_path.glob("*.csv"))
    assert one == two
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_a_process_of_its_own(hub, exported, tmp_path):
    """By the variables that the client reads, as a user sets them."""
    env = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "ccscale", "push", str(exported), "me/animals"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    (commit,) = hub.repos["me/animals"]
    assert done.returncode == 0
    assert f"load it with ccscale.load('hf://me/animals@{commit}')" in done.stdout


def test_what_goes_wrong_is_said(hub, exported, monkeypatch, tmp_path):
    def told(name: str) -> str:
        with pytest.raises(InputError) as caught:
            ccscale.load(name)
        return str(caught.value)

    assert told("hf://me/none").startswith(
        "the Hub has no repository me/none, or it is private: check the name"
    )
    assert told("hf://a/b/c") == "'a/b/c' is not a Hub repository: write OWNER/NAME"
    hub.repos["me/other"] = {"a" * 40: {"config.json": b"{}"}}
    assert told("hf://me/other@v2") == "me/other has no branch, tag or commit 'v2'"
    assert "is not the config of an exported network" in told("hf://me/other")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(InputError, match="the Hub denies you write access to me/animals: log in with"):
        ccscale.model.hub.push(exported, "me/animals")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert told("hf://me/new") == (
        "me/new is not in the local cache, and HF_HUB_OFFLINE is set: unset it on a machine with internet access"
    )
    assert len(hub.requests) == asked


def test_a_hub_that_cannot_be_reached(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Fault, match=r"the Hub could not be reached for me/animals \("):
        ccscale.load("hf://me/animals")


def test_what_is_not_pushed(hub, run, exported, refused, monkeypatch):
    assert refused("push", run, "me/animals").startswith(
        f"{run} is not an exported network with a model card"
    )
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(exported / "none"))
    assert refused("push", exported, "me/animals").startswith("pushing to the Hub needs a token with write")
    assert not hub.requests
