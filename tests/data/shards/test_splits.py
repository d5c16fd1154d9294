"""Names of public shards are understood, and what the user says goes before them."""

import pytest

from ccscale.data.shards.splits import describe, split_of, splits_of
from ccscale.errors import InputError


@pytest.mark.parametrize(
    ("tar", "split"),
    [
        ("train-000000.tar", "train"),
        ("imagenet1k-train-0000.tar", "train"),
        ("imagenet1k-validation-00.tar", "validation"),
        ("imagenet-val-000000.tar", "val"),
        ("imagenet_val_000000.tar", "val"),
        ("val.tar", "val"),
        ("test.tar", "test"),
        ("cc3m-train-0000.tar", "train"),
        ("train-00000-of-01024.tar", "train"),
        ("coco_val2017.tar", "val"),
        ("Valid7.tar", "valid"),
        ("stl10-unlabeled-3.tar", "unlabeled"),
        ("unlabelled/3.tar", "unlabelled"),
        ("holdout_01.tar", "holdout"),
        ("a.dev.000.tar", "dev"),
        ("x-training-1.tar", "training"),
        ("val/shard-000.tar", "val"),
        ("val/a/00000.tar", "val"),
        ("train/val-000.tar", "val"),
        ("imagenet-test/part-1.tar", "test"),
        ("photos-01.tar", "photos"),
        ("photos/01.tar", "train"),
        ("latest-01.tar", "latest"),
        ("trainees-01.tar", "trainees"),
        ("00000.tar", "train"),
        ("laion2B-en-00000.tar", "train"),
        ("shards.tar", "train"),
    ],
)
def test_the_split_in_a_name(tar, split):
    assert split_of(tar) == split


def test_the_user_says_otherwise():
    tars = ["a/b-0.tar", "a/b-1.tar", "train-0.tar", "val-0.tar"]
    assert splits_of(tars, ["all"]) == dict.fromkeys(tars, "all")
    assert splits_of(tars, ["b-*.tar=test", "*-0.tar=dev"]) == dict(
        zip(tars, ["test", "test", "dev", "dev"], strict=True)
    )
    assert splits_of(tars, ["a/*=test"]) == dict(zip(tars, ["test", "test", "train", "val"], strict=True))
    assert describe(splits_of(tars, ["a/*=test"])) == [
        "split test: a/b-0.tar to a/b-1.tar, 2 tars",
        "split train: train-0.tar",
        "split val: val-0.tar",
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "*.zip=test",
            r"--split '\*\.zip=test': no tar matches '\*\.zip', for example 'train-0\.tar' does not",
        ),
        ("*=../x", r"--split '\.\./x' cannot be used in names of shards"),
        ("a b", "--split 'a b' cannot be used in names of shards"),
        ("*=", "--split '' cannot be used"),
    ],
)
def test_what_cannot_be_meant(asked, message):
    with pytest.raises(InputError, match=message):
        splits_of(["train-0.tar"], [asked])
