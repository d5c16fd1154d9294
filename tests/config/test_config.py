"""The config: what it takes, what it refuses and with which words, and that it is written as it is read."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ccscale.config import MAX_LANES, Config
from ccscale.config.divisors import divisors, largest_divisor, nearest_divisors
from ccscale.config.file import load_config, parse_config
from ccscale.config.keys import describe_keys
from ccscale.config.section import MayChange
from ccscale.errors import InputError

LEAST = {"data": {"shards": "here"}, "model": {"clusters": 10}}
EXAMPLES = Path(__file__).parents[2] / "configs"


def refusal(*overrides: str, settings: dict[str, Any] = LEAST) -> str:
    """Return what a config with these overrides is refused with, and check that it is one line."""
    with pytest.raises(InputError) as caught:
        parse_config(settings, overrides, place="my.yaml")
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_defaults_are_the_paper_s():
    config = parse_config(LEAST)
    assert (config.seed, config.run) == (0, None)
    assert (config.loss.instance_temperature, config.loss.cluster_temperature) == (0.5, 1.0)
    assert (config.train.global_batch, config.train.epochs, config.train.lr) == (256, 1000, 3e-4)
    assert (config.model.backbone, config.model.embedding, config.views.size) == ("resnet34", 128, 224)
    assert config.data.splits == ("train",)


def test_file_over_defaults_and_overrides_over_the_file(tmp_path):
    path = write(tmp_path, "data: {shards: here}\nmodel: {clusters: 7}\ntrain:\n  lr: 0.5\n  epochs: 3\n")
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
    ],
)
def test_values_of_overrides(override, section, value):
    name = override.split("=")[0].split(".")[1]
    found = getattr(getattr(parse_config(LEAST, [override]), section), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("7", "7"),
        ("007", "007"),
        ("2024-01-01", "2024-01-01"),
        ("2024-02-30", "2024-02-30"),
        ("2001-12-14 21:59:43", "2001-12-14 21:59:43"),
        ("1e3", "1e3"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("0x1F", "0x1F"),
        ("yes", "yes"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("'7'", "7"),
    ],
)
def test_a_text_is_what_was_written(tmp_path, written, text):
    """Whatever YAML 1.1 makes of it: a number in base 8 or 60, a date (even one that there is not), true."""
    path = write(
        tmp_path,
        f"run: {written}\ndata: {{shards: {written}, splits: [{written}]}}\nmodel: {{clusters: 2}}\n",
    )
    override = parse_config(LEAST, [f"run={written}", f"data={{shards: {written}, splits: {written}}}"])
    for config in (load_config(path), override):
        assert (config.run, config.data.shards, config.data.splits) == (text, text, (text,))
    phases = parse_config(LEAST, [f"data.phases=[{{splits: {written}}}]"]).data.phases
    assert phases is not None
    assert phases[0].splits == (text,)


def test_a_number_is_one_still(tmp_path):
    path = write(
        tmp_path,
        "seed: 7\nrun: null\ndata: {shards: x}\nmodel: {clusters: 2, weights: null, pretrained: yes}\n",
    )
    config = load_config(path)
    assert (config.seed, config.run, config.model.weights, config.model.pretrained) == (7, None, None, True)


@pytest.mark.parametrize(
    ("written", "number"),
    [("010", 10), ("7", 7), ("1_000", 1000), ("0x10", 16), ("+5", 5), ("0", 0)],
)
def test_whole_numbers_are_as_people_read_them(written, number):
    assert parse_config(LEAST, [f"seed={written}"]).seed == number


@pytest.mark.parametrize("written", ["12:30", "1:30", "190:20:30", "2024-01-01"])
def test_times_and_dates_are_no_numbers(written):
    assert refusal(f"train.epochs={written}").startswith(
        f"override 'train.epochs={written}': 'train.epochs' is "
    )


@pytest.mark.parametrize("written", ["0.5", ".5", "5.e-1", "+0.5", "0_0.5", "5e-1", "00.5"])
def test_fractions(written):
    assert parse_config(LEAST, [f"views.flip={written}"]).views.flip == 0.5


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
    path = write(
        tmp_path, "run: ~/runs/a\ndata: {shards: ~/shards, cache: ~/c}\nmodel: {clusters: 2, weights: ~/w}\n"
    )
    config = load_config(path)
    assert (config.run, config.data.shards) == ("/home/me/runs/a", "/home/me/shards")
    assert (config.data.cache, config.model.weights) == ("/home/me/c", "/home/me/w")
    assert config.run_folder == Path("/home/me/runs/a")
    config = load_config(path, ["run=~/b", "data.shards=s3://~/x", "data.cache=a~", "model.weights=./~/w"])
    assert (config.run, config.data.shards) == ("/home/me/b", "s3://~/x")
    assert (config.data.cache, config.model.weights) == ("a~", "./~/w")


def test_every_key_of_a_folder_or_file_knows_home(monkeypatch):
    """A key that is described as one takes ``~``."""
    monkeypatch.setenv("HOME", "/home/me")
    keys = [
        key
        for key, kind, *_, about in describe_keys()
        if "str" in kind and re.search(r"[Ff]older|file\b", about)
    ]
    assert {"run", "data.shards", "data.cache", "model.weights"} <= set(keys)
    for key in keys:
        resolved = yaml.safe_load(parse_config(LEAST, [f"{key}=~/x"]).to_yaml())
        for name in key.split("."):
            resolved = resolved[name]
        assert resolved == "/home/me/x", key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train: {lr: 1}\nmodel: {clusters: 2}\ntrain: {epochs: 3}\n",
            "'train' stands twice, in lines 1 and 3",
        ),
        ("train:\n  lr: 1\n  epochs: 3\n  lr: 2\n", "'lr' stands twice, in lines 2 and 4"),
        ("1: {}\n'1': {}\n", "'1' stands twice, in lines 1 and 2"),
        ("data:\n  phases:\n    - splits: a\n      splits: b\n", "'splits' stands twice, in lines 3 and 4"),
        ("train: &a\n  lr: *a\n", "line 1 holds itself, by an alias"),
    ],
)
def test_what_yaml_would_drop_or_go_round_is_refused(tmp_path, text, expected):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


def test_aliases_and_merges_are_taken(tmp_path):
    path = write(
        tmp_path,
        "data: &d {shards: 7, splits: &s [1]}\nmodel: {clusters: 2}\nevaluate: {splits: *s}\n"
        "loss: {<<: {instance_weight: 2, cluster_weight: 3}, cluster_weight: 4}\n",
    )
    config = load_config(path)
    assert (config.data.shards, config.data.splits, config.evaluate.splits) == ("7", ("1",), ("1",))
    assert (config.loss.instance_weight, config.loss.cluster_weight) == (2, 4)


def test_scientific_floats_in_a_file(tmp_path):
    path = write(
        tmp_path, "data: {shards: x}\nmodel: {clusters: 2}\ntrain:\n  lr: 1e-3\n  weight_decay: 5E-6\n"
    )
    train = load_config(path).train
    assert (train.lr, train.weight_decay) == (1e-3, 5e-6)


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
        "override 'data.allow_pipe=true': the key 'data.allow_pipe' is gone: no command is run from data"
    )
    told = refusal(settings=LEAST | {"data": {"shards": "here", "allow_pipe": True}})
    assert told.startswith("my.yaml: the key 'data.allow_pipe' is gone")


def test_unknown_key_in_a_file(tmp_path):
    path = write(tmp_path, "data: {shards: x, lane: 4}\nmodel: {clusters: 2}\n")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: there is no key 'data.lane'; did you mean 'data.lanes'")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr=abc", "'train.lr' is 'abc': input should be a valid number"),
        ("train.epochs=1.5", "'train.epochs' is 1.5: input should be a valid integer"),
        ("model.pretrained=perhaps", "'model.pretrained' is 'perhaps': input should be a valid boolean"),
        ("data.shards=null", "'data.shards' is None: input should be a valid string"),
        ("data.splits=train,test", "'data.splits' is 'train,test': several names are a list: [train, test]"),
        ("data.splits={a: 1}", "'data.splits' is {'a': 1}: input should be a list, as [a, b]"),
        ("views.crop_scale=3", "'views.crop_scale' is 3: input should be a list, as [a, b]"),
        ("data=5", "'data' is 5"),
        ("train.precision=fp16", "'train.precision' is 'fp16': input should be 'fp32', 'bf16' or 'fp64'"),
        (
            "model.clusters=10000000000",
            "'model.clusters' is 10000000000: input should be less than or equal to 1048576",
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
    assert "crop_scale is a share of the image's area: at most 1" in refusal("views.crop_scale=[0.5,2]")


def test_hue_is_bounded_after_the_strength():
    assert parse_config(LEAST, ["views.hue=0.5", "views.strength=1"]).views.hue == 0.5
    message = refusal("views.hue=0.4", "views.strength=1.5")
    assert "'views'" in message
    assert "hue * strength is 0.6, and may be at most 0.5" in message


def test_blur_kernel_that_the_view_cannot_hold():
    """Reflection at the border needs a view that is larger than half of the kernel."""
    assert parse_config(LEAST, ["views.blur=1", "views.size=12"]).views.blur_kernel == 23
    assert parse_config(LEAST, ["views.blur=0", "views.size=8"]).views.size == 8
    message = refusal("views.blur=0.5", "views.size=11")
    assert "blur_kernel 23 is too large for size 11: at most 21" in message
    parse_config(LEAST, ["views.blur=0.5", "views.size=11", "views.blur_kernel=21"])


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


@given(st.integers(1, 5000), st.integers(1, 6000))
def test_divisors(number, wanted):
    known = [d for d in range(1, number + 1) if number % d == 0]
    assert divisors(number) == known
    assert largest_divisor(number, MAX_LANES) == max(d for d in known if d <= MAX_LANES)
    near = nearest_divisors(number, wanted)
    assert near == sorted(set(near))
    assert set(near) <= set(known)
    assert not [d for d in known if near[0] < d < near[-1]]
    assert near[0] <= wanted
    assert near[-1] >= wanted or near[-1] == number


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
        ("train.lr=[1", "the value in 'train.lr=[1' is not valid YAML"),
        ("data.shards.y=5", "override 'data.shards.y=5': shards is a value"),
        (
            "views={flip: 0, flip: 1}",
            "the value in 'views={flip: 0, flip: 1}': 'flip' stands twice, in lines 1 and 1",
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
        ("- 1\n- 2\n", "must hold sections with keys"),
        ("word", "must hold sections with keys"),
        ("", "the key 'data.shards' is missing"),
        (b"\xff\xfe\x00\xd8", "cannot be read: "),
    ],
)
def test_broken_file(tmp_path, text, expected):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert str(path) in message
    assert expected in message
    assert "\n" not in message


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path)


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
    path = write(tmp_path_factory.getbasetemp(), config.to_yaml())
    assert load_config(path) == config
    assert (config.train.lr, config.data.splits, config.run) == (lr, tuple(splits), run)


def test_resolved_yaml_has_every_key():
    resolved = yaml.safe_load(parse_config(LEAST).to_yaml())
    flat = {
        f"{name}.{key}" if isinstance(section, dict) else name
        for name, section in resolved.items()
        for key in (section if isinstance(section, dict) else [""])
    }
    assert flat == {row[0] for row in describe_keys()}


def test_every_key_is_described():
    def leaves(section: type[Any], prefix: str = "") -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            inner = field.annotation
            is_section = isinstance(inner, type) and hasattr(inner, "model_fields")
            found += leaves(inner, f"{prefix}{name}.") if is_section else [prefix + name]
        return found

    rows = describe_keys()
    assert [row[0] for row in rows] == leaves(Config)
    for key, kind, default, may_change, description in rows:
        assert isinstance(may_change, MayChange), key  # every key has said it
        assert description.endswith("."), key
        assert kind, key
        assert default, key
        assert "\n" not in kind + default + description
    table = {row[0]: row[1:3] for row in rows}
    assert table["model.clusters"] == ("int", "(required)")
    assert table["data.splits"] == ("list of str", "[train]")
    assert table["views.crop_scale"] == ("[float, float] or null", "[0.08, 1.0]")
    assert table["train.zero"] == ("0 or 1 or 2", "0")
    assert table["train.clip"] == ("float or null", "null")


def test_described_defaults_are_the_defaults():
    """Every default, given as an override in the words of the list of keys, changes nothing."""
    overrides = [f"{key}={default}" for key, _, default, *_ in describe_keys() if default != "(required)"]
    assert len(overrides) > 30
    assert parse_config(LEAST, overrides) == parse_config(LEAST)


def test_json_schema():
    schema = json.loads(json.dumps(Config.model_json_schema()))
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["$defs"]["Train"]["properties"]["lr"]["exclusiveMinimum"] == 0
    for name, definition in schema["$defs"].items():
        for key, entry in definition["properties"].items():
            assert entry.get("description"), f"{name}.{key}"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid(path):
    config = load_config(path)
    assert config.run is not None
    head = path.read_text(encoding="utf-8").splitlines()[0]
    assert head.startswith("# ")


def test_a_section_with_all_keys_commented_out_is_empty() -> None:
    settings = {"data": {"shards": "x"}, "model": {"clusters": 3}, "train": None, "views": None}
    assert parse_config(settings) == parse_config({"data": {"shards": "x"}, "model": {"clusters": 3}})


@pytest.mark.parametrize("override", ["train.lr\n=1", "train lr=1", ".lr=1", "train.=1", "=1"])
def test_an_override_without_a_key_is_refused_in_one_line(override: str) -> None:
    with pytest.raises(InputError, match="is not an override") as caught:
        parse_config({"data": {"shards": "x"}, "model": {"clusters": 3}}, [override])
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read: "):
        load_config(tmp_path / ("x" * 300))
