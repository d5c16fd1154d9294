"""Options between positional arguments, and what is said of what is wrong."""

import argparse

import pytest

from ccscale.cli.arguments import byte_size
from ccscale.cli.parser import IntermixedParser


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
        ("make folder in out --size 3parsec", "argument --size: '3parsec' is not a size: write 256MB"),
    ],
)
def test_what_is_wrong(parser, line, message, capsys):
    for _ in range(2):  # a parser can be used again
        with pytest.raises(SystemExit) as left:
            parser.parse_args(line.split())
        assert left.value.code == 2
        assert message in capsys.readouterr().err
