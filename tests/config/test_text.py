"""A text, a number or a list is what was written, whatever YAML makes of it."""

import pytest
from harness.configs import LEAST, refusal, write_text

from ccscale.config.file import load_config, parse_config
from ccscale.errors import InputError


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
    path = write_text(
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
    path = write_text(
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train: {lr: 1}\nmodel: {clusters: 2}\ntrain: {epochs: 3}\n",
            "'train' appears twice, in lines 1 and 3",
        ),
        ("train:\n  lr: 1\n  epochs: 3\n  lr: 2\n", "'lr' appears twice, in lines 2 and 4"),
        ("1: {}\n'1': {}\n", "'1' appears twice, in lines 1 and 2"),
        ("data:\n  phases:\n    - splits: a\n      splits: b\n", "'splits' appears twice, in lines 3 and 4"),
        ("train: &a\n  lr: *a\n", "line 1 contains itself through an alias"),
    ],
)
def test_what_yaml_would_drop_or_go_round_is_refused(tmp_path, text, expected):
    path = write_text(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


def test_aliases_and_merges_are_taken(tmp_path):
    path = write_text(
        tmp_path,
        "data: &d {shards: 7, splits: &s [1]}\nmodel: {clusters: 2}\nevaluate: {splits: *s}\n"
        "loss: {<<: {instance_weight: 2, cluster_weight: 3}, cluster_weight: 4}\n",
    )
    config = load_config(path)
    assert (config.data.shards, config.data.splits, config.evaluate.splits) == ("7", ("1",), ("1",))
    assert (config.loss.instance_weight, config.loss.cluster_weight) == (2, 4)


def test_scientific_floats_in_a_file(tmp_path):
    path = write_text(
        tmp_path, "data: {shards: x}\nmodel: {clusters: 2}\ntrain:\n  lr: 1e-3\n  weight_decay: 5E-6\n"
    )
    train = load_config(path).train
    assert (train.lr, train.weight_decay) == (1e-3, 5e-6)
