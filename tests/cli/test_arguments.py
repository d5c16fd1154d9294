"""Numbers and sizes as people write them."""

import argparse

import pytest

from ccscale.cli.arguments import amount, byte_size, count, number


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("0", 0),
        ("7b", 7),
        ("256MB", 256_000_000),
        ("256 mib", 256 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("0.5KiB", 512),
        ("2TB", 2 * 10**12),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text, size):
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e6", "1XB", "1.MB", "1 2", "١MB", "inf"])
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size"):
        byte_size(text)


def test_numbers():
    assert [number("0"), number("12"), count("1"), amount("0"), amount("1.5e3")] == [0, 12, 1, 0.0, 1500.0]


@pytest.mark.parametrize("text", ["", "-1", "1.5", "١", "1e3", "nan", " 1"])
@pytest.mark.parametrize("read", [number, count])
def test_what_is_no_number_of_things(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a whole number of at least [01]"):
        read(text)


@pytest.mark.parametrize("text", ["", "-1", "-0.1", "nan", "inf", "-inf", "x"])
def test_what_is_no_amount(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of at least 0"):
        amount(text)


def test_at_least_one():
    with pytest.raises(argparse.ArgumentTypeError, match="'0' is not a whole number of at least 1"):
        count("0")
