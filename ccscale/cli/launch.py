"""``ccscale launch``: submits, and tells the jobs' numbers and the runs' folders; or trains here."""

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ccscale.cli.arguments import add_config, add_json, count, number, path
from ccscale.config import Config
from ccscale.config.file import load_config
from ccscale.errors import InputError
from ccscale.exit_codes import FAULT
from ccscale.launch.resources import Resources, check_line, parse_extra, parse_memory, parse_time
from ccscale.launch.scripts import write_scripts
from ccscale.launch.sweep import expand
from ccscale.preempt import stop_on_signal
from ccscale.printing import put_json
from ccscale.wording import counted

T = TypeVar("T")

EXAMPLES = """\
examples:
  ccscale launch CONFIG --nodes 2 --gpus-per-node 8 --cpus-per-task 8 --time 24:00:00 --partition gpu
  ccscale launch CONFIG --gpus-per-node 4 --sweep seed=0,1,2 --sweep train.lr=0.0003,0.001 --slurm qos=long
  ccscale launch CONFIG --cluster local                       all GPUs of this machine, in the foreground

A job that is preempted or out of time saves, requeues itself and resumes. Its files are kept in RUN.jobs. On this
machine Ctrl-C and signals reach all ranks: they save, and the exit codes are those of `ccscale train`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_config(parser, optional=True)
    parser.add_argument(
        "--cluster", choices=("slurm", "local"), default="slurm", help="local: this machine, without Slurm"
    )
    parser.add_argument(
        "--sweep",
        metavar="KEY=A,B,C",
        action="append",
        default=[],
        help="one run per value, each in its own folder below the run's (repeat for all combinations)",
    )
    parser.add_argument(
        "--scripts",
        metavar="DIR",
        type=path,
        help="write sbatch scripts into this folder for editing, and submit nothing",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the script or the commands, and start nothing"
    )
    parser.add_argument(
        "--follow", action="store_true", help="show the log until the job ends (local: always)"
    )
    add_json(parser)
    job = parser.add_argument_group("what each job gets")
    job.add_argument("--nodes", type=count, metavar="N", default=1)
    job.add_argument("--gpus-per-node", type=number, metavar="G", default=0)
    job.add_argument(
        "--tasks-per-node", type=count, metavar="T", help="processes (default: one per GPU; local: all GPUs)"
    )
    job.add_argument(
        "--cpus-per-task", type=count, metavar="C", help="cores for a process and its loader workers"
    )
    job.add_argument("--mem", metavar="SIZE", help="memory of a node, such as 64G; 0: all of it")
    job.add_argument(
        "--time",
        metavar="LIMIT",
        help="minutes, 12:00:00 or 3-00:00:00, after which it saves and is requeued (default: a day; local: none)",
    )
    job.add_argument("--partition", metavar="NAME")
    job.add_argument("--account", metavar="NAME")
    job.add_argument("--constraint", metavar="FEATURES")
    job.add_argument(
        "--slurm",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="another option of sbatch, such as qos=long or exclusive (may be repeated)",
    )


def run(args: argparse.Namespace) -> int:
    if args.scripts is not None:
        return _write_scripts(args)
    if args.config is None:
        raise InputError("launch needs a CONFIG: a YAML file or a recipe (`ccscale config --recipes`)")
    resources = read_resources(args)
    common = load_config(args.config, args.overrides)
    folder = common.run_folder
    if args.cluster == "local":
        return _train_here(args, common, resources)
    configs = expand(args.config, args.overrides, args.sweep, resources.ranks)
    from ccscale.launch.logs import show_logs  # submitit takes its time
    from ccscale.launch.submit import script, submit

    if args.dry_run:
        sys.stdout.write(script(len(configs), folder, resources))
        return 0
    submitted = submit(configs, folder, resources)
    jobs = [{"job": job.job.job_id, "run": str(job.run), "log": str(job.log)} for job in submitted]
    if args.json:
        put_json({"jobs": jobs})
    else:
        for job in jobs:
            print(f"job {job['job']}: run {job['run']}, log {job['log']}", flush=True)
    if not args.follow:
        return 0
    try:
        return 0 if show_logs(submitted) else FAULT
    except KeyboardInterrupt:
        names = " ".join(job["job"] for job in jobs)
        print(f"the jobs keep running; `scancel {names}` ends them", file=sys.stderr)
        raise


def _train_here(args: argparse.Namespace, common: Config, resources: Resources) -> int:
    """Train the runs on this machine, one after the other; return the gravest of their codes."""
    from ccscale.launch.local import as_json, command, count_gpus, gravest, train_all_here

    if resources.nodes > 1:
        raise InputError("--cluster local uses this machine only: leave out --nodes, or set it to 1")
    ranks = args.tasks_per_node or args.gpus_per_node
    ranks = ranks or (1 if common.train.device == "cpu" else max(1, count_gpus()))
    configs = expand(args.config, args.overrides, args.sweep, ranks)
    if args.dry_run:
        for config in configs:
            print(f"{counted(ranks, 'rank')} of {shlex.join(command(args.config, config))}")
        return 0
    found = []
    with stop_on_signal() as request:
        for config, ended in train_all_here(configs, ranks, request, resources):
            found.append(as_json(config, ended))
            if not args.json and ended.code == 0:
                print(f"run {config.run}: finished at step {ended.step}", flush=True)
    if args.json:
        put_json({"jobs": found})
    return gravest([one["code"] for one in found])


def _write_scripts(args: argparse.Namespace) -> int:
    """Write the scripts instead of a submission."""
    if args.config is not None:
        raise InputError("--scripts submits nothing: leave out CONFIG")
    written = [str(path) for path in write_scripts(args.scripts)]
    put_json({"scripts": written}) if args.json else print("\n".join(written))
    return 0


def read_resources(args: argparse.Namespace) -> Resources:
    """Return what the arguments of ``ccscale launch`` say of a job.

    Raises
    ------
    InputError
        For what Slurm would not take.
    """
    return Resources(
        nodes=args.nodes,
        gpus_per_node=args.gpus_per_node,
        tasks_per_node=args.tasks_per_node,
        cpus_per_task=args.cpus_per_task,
        mem=_if_given(parse_memory, args.mem),
        minutes=_if_given(parse_time, args.time),
        partition=_if_given(partial(check_line, "--partition"), args.partition),
        account=_if_given(partial(check_line, "--account"), args.account),
        constraint=_if_given(partial(check_line, "--constraint"), args.constraint),
        extra=parse_extra(args.slurm),
    )


def _if_given(parse: Callable[[str], T], text: str | None) -> T | None:
    return None if text is None else parse(text)
