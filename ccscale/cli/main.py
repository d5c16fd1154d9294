"""Parses a command line, calls its verb, and tells errors as sentences."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from functools import partial

from ccscale.cli.parser import HelpFormatter, IntermixedParser, Parser, ShowVersion
from ccscale.cli.verbs import GROUPS, VERBS, Verb
from ccscale.errors import Fault, InputError
from ccscale.exit_codes import FAULT, INTERRUPTED, STOPPED
from ccscale.openmp import spin_briefly
from ccscale.orphan import stop_when_orphaned
from ccscale.preempt import Stopped
from ccscale.printing import visible
from ccscale.process_exit import ProcessExit
from ccscale.rank_environment import RankEnvironment


def entry() -> None:
    """Run the command line of this process, and end the process with its exit code."""
    end = ProcessExit()
    stop_when_orphaned()
    spin_briefly()
    try:
        end.code = main()
    except SystemExit as exit:  # argparse, after --help (0) or a wrong option (2)
        end.code = exit.code or 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    rank = RankEnvironment.read().rank
    args = argparse.Namespace(goes_on=False)  # of a Ctrl-C before the verb is known
    try:
        asked = _without_launcher_options(sys.argv[1:] if arguments is None else arguments)
        args = build_parser().parse_args(joined(asked))
        return args.call(args)
    except (InputError, Fault) as error:
        if error.teller in (None, rank):
            where = f" on rank {rank}" if rank else ""
            print(f"error{where}: {visible(str(error))}", file=sys.stderr)
        return error.exit_code
    except Stopped as stopped:
        if rank == 0:
            print(stopped, file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        if rank == 0:
            again = "; the same command continues from there" if args.goes_on else ""
            print(f"interrupted{again}", file=sys.stderr)
        return STOPPED if args.goes_on else INTERRUPTED
    except BrokenPipeError:  # as in `ccscale config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAULT
    except OSError as error:
        if (wrong := _what_is_wrong_around(error)) is None:
            raise
        print(f"error: {wrong}", file=sys.stderr)
        return wrong.exit_code


def _what_is_wrong_around(error: OSError) -> InputError | Fault | None:
    """Return what is the matter with the surroundings of this process, which any call may stumble over."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = "standard output or a file" if error.filename is None else error.filename
        return Fault(f"{where} cannot be written to ({error.strerror}): make room there, or write elsewhere")
    try:
        os.getcwd()
    except FileNotFoundError:
        return InputError("the current folder has been deleted: change to another one")
    return None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with all verbs."""
    parser = Parser(prog="ccscale", description="Groups images without labels, at any scale.")
    parser.add_argument("--version", action=ShowVersion, help="show program's version number and exit")
    parser.set_defaults(call=partial(_print_help, parser))
    groups = {"": parser.add_subparsers(metavar="COMMAND", parser_class=IntermixedParser)}
    for verb in VERBS:
        group, _, name = verb.name.rpartition(" ")
        if group not in GROUPS:
            group, name = "", verb.name
        about = f"{verb.about[0].upper()}{verb.about[1:]}. {verb.more}"
        command = groups[group].add_parser(
            name, help=verb.about, description=about, formatter_class=HelpFormatter
        )
        if verb.is_group:
            groups[verb.name] = command.add_subparsers(metavar="COMMAND")
            command.set_defaults(call=partial(_print_help, command))
        else:
            command.fill_by(partial(_fill, command, verb))
    return parser


def _fill(command: argparse.ArgumentParser, verb: Verb) -> None:
    code = verb.code
    code.add_arguments(command)
    command.set_defaults(call=code.run, goes_on=verb.goes_on)


def _print_help(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Do what is asked where no verb is given."""
    parser.print_help()
    return 0


def joined(arguments: list[str]) -> list[str]:
    """Take two words for one where they name a verb that is beside its first word's: ``embed``, ``embed info``."""
    first = " ".join(arguments[:2])
    is_one = arguments[:1] not in [[name] for name in GROUPS] and first in {verb.name for verb in VERBS}
    return [first, *arguments[2:]] if is_one else arguments


def _without_launcher_options(arguments: Sequence[str]) -> list[str]:
    """Drop --local_rank, which DeepSpeed's launcher adds in front; the rank comes from the environment."""
    return [argument for argument in arguments if not argument.startswith("--local_rank=")]
