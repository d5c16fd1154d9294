"""What each section takes and what it refuses, and that a config is written as it is read."""

from pathlib import Path

import pytest
import yaml
from harness.configs import LEAST, refusal, write_text
from hypothesis import given
from hypothesis import strategies as st

from ccscale.config.file import load_config, parse_config
from ccscale.errors import InputError


def test_defaults_are_the_paper_s():
    config = parse_config(LEAST)
    assert (config.seed, config.run) == (0, None)
    assert (config.loss.instance_temperature, config.loss.cluster_temperature) == (0.5, 1.0)
    assert (config.train.global_batch, config.train.epochs, config.train.lr) == (256, 1000, 3e-4)
    assert (config.model.backbone, config.model.embedding, config.views.size) == ("resnet34", 128, 224)
    assert config.data.splits == ("train",)


def test_one_name_is_a_list_of_one():
    overrides = ["data.splits=train", "evaluate.splits=val"]
    config = parse_config(LEAST, overrides)
    assert (config.data.splits, config.evaluate.splits) == (("train",), ("val",))
    phases = parse_config(LEAST, ["data.phases=[{splits: a, losses: instance}, {splits: b}]"]).phases
    assert [(phase.splits, phase.losses) for phase in phases] == [
        (("a",), ("instance",)),
        (("b",), ("instance", "cluster")),
    ]


def test_home_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    path = write_text(
        tmp_path, "run: ~/runs/a\ndata: {shards: ~/shards, cache: ~/c}\nmodel: {clusters: 2, weights: ~/w}\n"
    )
    config = load_config(path)
    assert (config.run, config.data.shards) == ("/home/me/runs/a", "/home/me/shards")
    assert (config.data.cache, config.model.weights) == ("/home/me/c", "/home/me/w")
    assert config.run_folder == Path("/home/me/runs/a")
    config = load_config(path, ["run=~/b", "data.shards=s3://~/x", "data.cache=a~", "model.weights=./~/w"])
    assert (config.run, config.data.shards) == ("/home/me/b", "s3://~/x")
    assert (config.data.cache, config.model.weights) == ("a~", "./~/w")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr=abc", "'train.lr' is 'abc': input should be a valid number"),
        ("train.epochs=1.5", "'train.epochs' is 1.5: input should be a valid integer"),
        ("model.pretrained=perhaps", "'model.pretrained' is 'perhaps': input should be a valid boolean"),
        (
            "data.splits=train,test",
            "'data.splits' is 'train,test': write several names as a list: [train, test]",
        ),
        ("data.splits={a: 1}", "'data.splits' is {'a': 1}: input should be a list, as [a, b]"),
        ("views.crop_scale=3", "'views.crop_scale' is 3: input should be a list, as [a, b]"),
        ("data=5", "'data' is 5"),
        ("train.precision=fp16", "'train.precision' is 'fp16': input should be 'fp32', 'bf16' or 'fp64'"),
        (
            "model.clusters=10000000000",
            "'model.clusters' is 10000000000: input should be less than or equal to 1048576",
        ),
        ("model.clusters=[10,1]", "'model.clusters.1' is 1: input should be greater than or equal to 2"),
        (
            "model.clusters=[5,5]",
            "'model.clusters' is [5, 5]: each number of clusters may appear only once; set model.heads "
            "for several heads each",
        ),
        (
            "model.clusters=[]",
            "'model.clusters' is []: tuple should have at least 1 item after validation, not 0",
        ),
        ("model.embedding=70000", "'model.embedding' is 70000: input should be less than or equal to 65536"),
        ("views.size=1000000", "'views.size' is 1000000: input should be less than or equal to 8192"),
        ("train.zero=3", "'train.zero' is 3: input should be 0, 1 or 2"),
    ],
)
def test_wrong_type(override, expected):
    assert refusal(override).startswith(f"override '{override}': {expected}")


@pytest.mark.parametrize(
    "override",
    [
        "train.lr=0",
        "train.lr=-1",
        "train.lr=.inf",
        "train.lr=.nan",
        "train.epochs=0",
        "train.global_batch=1",
        "train.max_steps=0",
        "train.clip=0",
        "train.keep_last=0",
        "model.clusters=1",
        "loss.instance_temperature=0",
        "loss.prior_exponent=0",
        "views.flip=1.1",
        "views.hue=0.6",
        "views.size=0",
        "views.rotate=-1",
        "views.blur_kernel=4",
        "views.crop_scale=[0.5,0.1]",
        "views.crop_scale=[0,1]",
        "views.zoom=[1,2,3]",
        "data.splits=[]",
        "data.workers=-1",
        "seed=-1",
        "seed=4294967296",
        "evaluate.every=-1",
    ],
)
def test_out_of_range(override):
    key, _, text = override.partition("=")
    value = yaml.safe_load(text)
    assert refusal(override).startswith(f"override '{override}': '{key}' is {value!r}: ")


def test_share_of_the_area_beyond_the_whole():
    assert "crop_scale is a fraction of the image's area: at most 1" in refusal("views.crop_scale=[0.5,2]")


def test_hue_is_bounded_after_the_strength():
    assert parse_config(LEAST, ["views.hue=0.5", "views.strength=1"]).views.hue == 0.5
    message = refusal("views.hue=0.4", "views.strength=1.5")
    assert "'views'" in message
    assert "hue * strength is 0.6, but must be at most 0.5" in message


def test_blur_kernel_that_the_view_cannot_hold():
    """Reflection at the border needs a view that is larger than half of the kernel."""
    assert parse_config(LEAST, ["views.blur=1", "views.size=12"]).views.blur_kernel == 23
    assert parse_config(LEAST, ["views.blur=0", "views.size=8"]).views.size == 8
    message = refusal("views.blur=0.5", "views.size=11")
    assert "blur_kernel 23 is too large for size 11: at most 21" in message
    parse_config(LEAST, ["views.blur=0.5", "views.size=11", "views.blur_kernel=21"])


def test_temi_has_a_prior_of_its_own():
    message = refusal("loss.objective=temi", "loss.prior=power")
    assert "prior power needs objective contrast" in message


def test_float64_needs_zero():
    message = refusal("train.precision=fp64")
    assert "train.precision fp64 needs train.zero 1 or 2" in message
    for stage in (1, 2):
        assert parse_config(LEAST, ["train.precision=fp64", f"train.zero={stage}"]).train.zero == stage


@pytest.mark.parametrize(("batch", "lanes"), [(256, 64), (64, 64), (48, 48), (1000, 50), (7, 7), (134, 2)])
def test_lanes_by_default(batch, lanes):
    assert parse_config(LEAST, [f"train.global_batch={batch}"]).lanes == lanes


def test_lanes_as_asked_for():
    assert parse_config(LEAST, ["data.lanes=128"]).lanes == 128
    message = refusal("data.lanes=48")
    assert "data.lanes 48 does not divide train.global_batch 256" in message
    assert "the nearest that do are 32 and 64" in message
    assert "the nearest that do are 256" in refusal("data.lanes=300")


def test_run_folder_must_be_named():
    with pytest.raises(InputError, match="the config has no key 'run': add run=DIR"):
        _ = parse_config(LEAST).run_folder


def test_config_does_not_change():
    config = parse_config(LEAST)
    with pytest.raises(ValueError, match="frozen"):
        config.train.lr = 1.0


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda word: word[0] != "~"  # the home folder's name
)


@given(
    run=st.none() | words | st.sampled_from(["1e3", "null", "yes", "007", "a: b", "#x", "2020-01-01", " x "]),
    seed=st.integers(0, 2**32 - 1),
    shards=words,
    splits=st.lists(words, min_size=1, max_size=3),
    lr=st.floats(1e-30, 1e30),
    clip=st.none() | st.floats(1e-30, 1e30),
    scale=st.none() | st.tuples(st.floats(1e-9, 0.5), st.floats(0.5, 1)),
    lanes=st.none() | st.sampled_from([1, 2, 64, 256]),
    zero=st.sampled_from([0, 1, 2]),
    pretrained=st.booleans(),
)
def test_yaml_reads_back_the_same(
    tmp_path_factory, run, seed, shards, splits, lr, clip, scale, lanes, zero, pretrained
):
    config = parse_config(
        {
            "run": run,
            "seed": seed,
            "data": {"shards": shards, "splits": splits, "lanes": lanes},
            "views": {"crop_scale": scale},
            "model": {"clusters": 3, "pretrained": pretrained},
            "train": {"lr": lr, "clip": clip, "zero": zero},
        }
    )
    path = write_text(tmp_path_factory.getbasetemp(), config.to_yaml())
    assert load_config(path) == config
    assert (config.train.lr, config.data.splits, config.run) == (lr, tuple(splits), run)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["train.decay_epochs=2"],
            "train.decay_epochs needs train.schedule wsd, and the schedule is constant: leave it out",
        ),
        (
            ["train.schedule=cosine", "train.warmup_epochs=10", "train.epochs=10"],
            "train.warmup_epochs 10 leaves nothing of train.epochs 10: shorten the warm-up, or train longer",
        ),
        (
            ["train.schedule=wsd", "train.warmup_epochs=0.5", "train.decay_epochs=2.5", "train.epochs=3"],
            "train.warmup_epochs 0.5 and train.decay_epochs 2.5 leave nothing of train.epochs 3: shorten "
            "the warm-up, or train longer",
        ),
    ],
)
def test_schedules_that_do_not_fit_are_refused(overrides, told):
    assert told in refusal(*overrides)
