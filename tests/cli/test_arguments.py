"""Options between positional arguments, and numbers and sizes as people write them."""

import argparse

import pytest

from ccscale.cli.arguments import IntermixedParser, amount, byte_size, count, number


@pytest.fixture
def parser():
    """A command with a sub-command, as the command line has it."""
    top = argparse.ArgumentParser(prog="top")
    verbs = top.add_subparsers(parser_class=IntermixedParser, required=True)
    make = verbs.add_parser("make")
    make.add_argument("kind")
    make.add_argument("paths", nargs="+")
    make.add_argument("--resize", type=int)
    make.add_argument("--size", type=byte_size, default="1MiB")
    make.add_argument("--dedup", action="store_true")
    make.set_defaults(call=make)
    return top


@pytest.mark.parametrize(
    "line",
    [
        "make folder in out --resize 64 --dedup",
        "make folder in --resize 64 out --dedup",
        "make folder --dedup in --resize=64 out",
        "make --resize 64 folder in --dedup out",
        "make --resize 64 --dedup folder in out",
    ],
)
def test_options_anywhere(parser, line):
    args = parser.parse_args(line.split())
    assert (args.kind, args.paths, args.resize, args.dedup) == ("folder", ["in", "out"], 64, True)
    assert args.size == 2**20
    assert args.call.prog == "top make"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("make", "the following arguments are required: kind, paths"),
        ("make folder --dedup", "the following arguments are required: paths"),
        ("make folder in --resize", "argument --resize: expected one argument"),
        ("make folder --resize x out", "argument --resize: invalid int value: 'x'"),
        ("make folder in --resise 3 out", "unrecognized arguments: --resise"),
        ("make folder in out --size 3parsec", "argument --size: '3parsec' is no size: write 256MB"),
    ],
)
def test_what_is_wrong(parser, line, message, capsys):
    for _ in range(2):  # a parser can be used again
        with pytest.raises(SystemExit) as left:
            parser.parse_args(line.split())
        assert left.value.code == 2
        assert message in capsys.readouterr().err


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
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        byte_size(text)


def test_numbers():
    assert [number("0"), number("12"), count("1"), amount("0"), amount("1.5e3")] == [0, 12, 1, 0.0, 1500.0]


@pytest.mark.parametrize("text", ["", "-1", "1.5", "١", "1e3", "nan", " 1"])
@pytest.mark.parametrize("read", [number, count])
def test_what_is_no_number_of_things(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no number from 0"):
        read(text)


@pytest.mark.parametrize("text", ["", "-1", "-0.1", "nan", "inf", "-inf", "x"])
def test_what_is_no_amount(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no number from 0"):
        amount(text)


def test_at_least_one():
    with pytest.raises(argparse.ArgumentTypeError, match="0 is less than 1"):
        count("0")
