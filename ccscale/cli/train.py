"""``ccscale train``: trains, and tells where the run is and how far."""

import argparse
import shlex

from ccscale.cli.arguments import add_config, add_json
from ccscale.config.file import load_config
from ccscale.errors import InputError
from ccscale.exit_codes import STOPPED
from ccscale.preempt import stop_on_signal
from ccscale.printing import put_json
from ccscale.process_exit import exit_at_once
from ccscale.progress import loading, say
from ccscale.rank_environment import RankEnvironment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    try:
        config = load_config(args.config, args.overrides)
        folder = config.run_folder
    except InputError as error:
        raise error.told_by(0) from None  # every rank reads the same file
    with stop_on_signal(leave=exit_at_once) as request:
        with request.at_once(), loading():  # it takes seconds
            from ccscale.train.train import train_run

        outcome = train_run(config, request)
    if RankEnvironment.read().rank == 0:
        if outcome.finished:
            name = shlex.quote(str(folder))
            say(
                f"next: `ccscale evaluate {name}` for scores, `ccscale report {name}` to look at the clusters"
            )
        if args.json:
            put_json({"run": str(folder), "step": outcome.step, "finished": outcome.finished})
    return 0 if outcome.finished else STOPPED
