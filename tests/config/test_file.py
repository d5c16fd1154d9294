"""A config from a file and overrides: which wins, and what is refused, with which words, and on whose account."""

from pathlib import Path
from typing import Any

import pytest
from harness.configs import LEAST, refusal, write_text

from ccscale.config.file import load_config, parse_config
from ccscale.errors import InputError


def test_file_over_defaults_and_overrides_over_the_file(tmp_path):
    path = write_text(
        tmp_path, "data: {shards: here}\nmodel: {clusters: 7}\ntrain:\n  lr: 0.5\n  epochs: 3\n"
    )
    config = load_config(path, ["train.epochs=4", "train.epochs=5", "views.size=32", "run=there"])
    assert (config.train.lr, config.train.epochs, config.train.clip) == (0.5, 5, None)
    assert (config.views.size, config.views.flip, config.model.clusters) == (32, 0.5, 7)
    assert config.run_folder == Path("there")


def test_override_makes_a_section_that_the_file_lacks():
    assert parse_config({}, ["data.shards=x", "model.clusters=2"]).data.shards == "x"


@pytest.mark.parametrize(
    ("override", "section", "value"),
    [
        ("train.lr=1e-3", "train", 1e-3),  # YAML 1.1 takes this for a word
        ("train.lr=1E-3", "train", 1e-3),
        ("train.lr=1.5e+2", "train", 150.0),
        ("train.clip=null", "train", None),
        ("train.clip=2", "train", 2.0),
        ("model.pretrained=true", "model", True),
        ("data.splits=[train, val]", "data", ("train", "val")),
        ("views.crop_scale=null", "views", None),
        ("views.crop_scale=[2e-1, 1]", "views", (0.2, 1.0)),
        ("data.shards=s3://bucket/a=b", "data", "s3://bucket/a=b"),
        ('data.shards="007"', "data", "007"),
        ("data.shards=photos: best", "data", "photos: best"),  # what YAML would make of a name
        ("data.shards=a # b", "data", "a # b"),
        ("data.shards=[new] {x", "data", "[new] {x"),
        ("data.shards=two\nlines", "data", "two\nlines"),
        ("data.features=null", "data", None),
        ("data.features=", "data", None),
    ],
)
def test_values_of_overrides(override, section, value):
    name = override.split("=")[0].split(".")[1]
    found = getattr(getattr(parse_config(LEAST, [override]), section), name)
    assert found == value
    assert type(found) is type(value)


def test_settings_that_are_given_stay_as_they_are():
    settings: dict[str, Any] = {"data": {"shards": "x"}, "model": {"clusters": 2}}
    parse_config(settings, ["data.shards=y", "train.lr=1"])
    assert settings == {"data": {"shards": "x"}, "model": {"clusters": 2}}


@pytest.mark.parametrize(
    ("views", "overrides", "blamed"),
    [
        ({}, ["train.lr=-1"], "override 'train.lr=-1': 'train.lr' is -1"),
        ({}, ["train.lr=-1", "train.lr=-2"], "override 'train.lr=-2': 'train.lr' is -2"),
        ({}, ["train={lr: -1}"], "override 'train={lr: -1}': 'train.lr' is -1"),
        ({}, ["trane.lr=1", "seed=2"], "override 'trane.lr=1': there is no key 'trane'"),
        ({"flip": 2}, ["views.hue=0.1", "seed=2"], "my.yaml: 'views.flip' is 2"),
        # Between keys: the file, and those of them that were overridden.
        ({}, ["data.lanes=48", "seed=2"], "my.yaml with 'data.lanes=48': data.lanes 48 does not divide"),
        (
            {"strength": 1.5},
            ["views.flip=1", "views.hue=0.4"],
            "my.yaml with 'views.hue=0.4': in 'views', hue * strength is 0.6",
        ),
        (
            {"strength": 1.5, "hue": 0.4},
            ["views.flip=1", "seed=2"],
            "my.yaml: in 'views', hue * strength is 0.6",
        ),
    ],
)
def test_what_an_override_got_wrong_is_not_blamed_on_the_file(views, overrides, blamed):
    assert refusal(*overrides, settings=LEAST | {"views": views}).startswith(blamed)


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("train.lrr=1", "train.lrr", "did you mean 'train.lr'"),
        ("lr=1", "lr", "did you mean 'train.lr'?"),
        ("train.clusters=5", "train.clusters", "did you mean 'model.clusters'?"),
        ("views.blurr=0.1", "views.blurr", "did you mean 'views.blur'"),
        ("tran.lr=1", "tran", "did you mean 'train'"),
        ("data.max_bad_sample=1", "data.max_bad_sample", "did you mean 'data.max_bad_samples'"),
        ("evaluate.evry=1", "evaluate.evry", "did you mean 'evaluate.every'"),
        ("zzz=1", "zzz", "`ccscale config` lists the keys"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(override, key, hint):
    assert refusal(override).startswith(f"override '{override}': there is no key '{key}'")
    assert hint in refusal(override)


def test_keys_that_are_gone():
    """What an earlier release wrote into a run's folder is read as long as it said nothing."""
    assert parse_config(LEAST | {"data": {"shards": "here", "allow_pipe": False}}) == parse_config(LEAST)
    assert refusal("data.allow_pipe=true").startswith(
        "override 'data.allow_pipe=true': the key 'data.allow_pipe' was removed: no command is run from data"
    )
    told = refusal(settings=LEAST | {"data": {"shards": "here", "allow_pipe": True}})
    assert told.startswith("my.yaml: the key 'data.allow_pipe' was removed")


def test_unknown_key_in_a_file(tmp_path):
    path = write_text(tmp_path, "data: {shards: x, lane: 4}\nmodel: {clusters: 2}\n")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: there is no key 'data.lane'; did you mean 'data.lanes'")


def test_missing_keys():
    assert "the key 'model.clusters' is missing" in refusal(settings={"data": {"shards": "x"}, "model": {}})
    message = refusal(settings={})
    assert message.startswith("my.yaml: the key 'data.shards' is missing")
    assert message.endswith("(and 1 more)")


def test_several_problems_are_counted():
    assert refusal("train.lr=-1", "train.epochs=0", "views.flip=2").endswith("(and 2 more)")


def test_long_values_are_cut():
    message = refusal("data.workers=" + "x" * 1000)
    assert "'data.workers' is 'xxxx" in message
    assert len(message) < 200


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr", "'train.lr' is not an override; write key=value"),
        ("=3", "'=3' is not an override"),
        (".lr=1", "'.lr=1' is not an override"),
        ("train.=1", "'train.=1' is not an override"),
        ("train lr=1", "'train lr=1' is not an override"),
        ("train.lr\n=1", "'train.lr\\n=1' is not an override"),
        ("train.lr=[1", "the value in 'train.lr=[1' is not valid YAML"),
        ("data.shards.y=5", "override 'data.shards.y=5': shards is a value"),
        (
            "views={flip: 0, flip: 1}",
            "the value in 'views={flip: 0, flip: 1}': 'flip' appears twice, in lines 1 and 1",
        ),
        (f"seed={'9' * 5000}", "the value in 'seed=9999"),
        (f"seed={'[' * 5000}", "the value in 'seed=[[[["),
    ],
)
def test_what_is_no_override(override, expected):
    assert refusal(override).startswith(expected)


def test_missing_file(tmp_path):
    with pytest.raises(
        InputError, match=r"^there is no config file .*/none.yaml; `ccscale config --recipes` lists"
    ):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: [1\nlr: 2\n", "is not valid YAML: "),
        ("a: b: c\n", "is not valid YAML: "),
        ("- 1\n- 2\n", "must contain sections with keys"),
        ("word", "must contain sections with keys"),
        ("", "the key 'data.shards' is missing"),
        (b"\xff\xfe\x00\xd8", "cannot be read: "),
    ],
)
def test_broken_file(tmp_path, text, expected):
    path = write_text(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert str(path) in message
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["", "x" * 300], ids=["a folder", "a name that is no file's"])
def test_what_cannot_be_a_file(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read: "):
        load_config(tmp_path / name)


def test_a_section_with_all_keys_commented_out_is_empty() -> None:
    assert parse_config(LEAST | {"train": None, "views": None}) == parse_config(LEAST)
