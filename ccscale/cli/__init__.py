"""The ``ccscale`` command: parses, calls one function per verb, prints results and tells errors as sentences.

Exit codes: 0 done; 1 a fault; 2 a mistake in what was asked; 75 stopped on request, saved, run me again; 76 another
rank was lost, run me again; 130 interrupted, with nothing saved.
Standard output holds results, standard error everything else.
"""

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

# What takes seconds to import (torch, DeepSpeed) is imported by the verb that needs it: --help is at once.
from ccscale.cli.arguments import IntermixedParser, Parser, add_overrides, amount, count, number, path
from ccscale.cli.launch import add_launch_arguments, run_launch
from ccscale.config import Config
from ccscale.config.file import load_config
from ccscale.config.keys import describe_keys
from ccscale.config.recipes import recipes
from ccscale.errors import Fault, InputError
from ccscale.exit_codes import FAULT, INTERRUPTED, STOPPED
from ccscale.orphan import stop_when_orphaned
from ccscale.preempt import SIGNALS, Stopped, stop_on_signal
from ccscale.process_exit import ProcessExit
from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment
from ccscale.wording import counted

CONFIG = "a YAML file (`ccscale config` lists its keys), or a recipe (`ccscale config --recipes`)"


def entry() -> None:
    """Run the command line of this process, and end the process with its exit code."""
    end = ProcessExit()
    stop_when_orphaned()
    try:
        end.code = main()
    except SystemExit as exit:  # argparse, after --help (0) or a wrong option (2)
        end.code = exit.code or 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    try:
        args = _parser().parse_args(
            _without_launcher_options(sys.argv[1:] if arguments is None else arguments)
        )
        return args.call(args)
    except (InputError, Fault) as error:
        _complain(error)
        return error.exit_code
    except Stopped as stopped:
        if _rank() == 0:
            print(stopped, file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        if _rank() == 0:
            again = "; the same command again goes on from there" if args.goes_on else ""
            print(f"interrupted{again}", file=sys.stderr)
        return STOPPED if args.goes_on else INTERRUPTED
    except BrokenPipeError:  # as in `ccscale config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAULT


def _leave() -> None:
    """End this process at once, on a second Ctrl-C: whatever it waits for."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted again: ended at once, with nothing more saved\n")
    os._exit(INTERRUPTED)


def _without_launcher_options(arguments: Sequence[str]) -> list[str]:
    """Drop --local_rank, which DeepSpeed's launcher adds in front; the rank comes from the environment."""
    return [argument for argument in arguments if not argument.startswith("--local_rank=")]


def _complain(error: InputError | Fault) -> None:
    """Tell a mistake once where all ranks met it, and with the rank's name where it is one rank's own."""
    if error.teller in (None, _rank()):
        where = f" on rank {_rank()}" if _rank() else ""
        from ccscale.printing import visible

        print(f"error{where}: {visible(str(error))}", file=sys.stderr)


def _rank() -> int:
    return RankEnvironment.read().rank


def _train(args: argparse.Namespace) -> int:
    try:
        config = load_config(args.config, args.overrides)
        folder = config.run_folder
    except InputError as error:
        raise error.told_by(0) from None  # every rank reads the same file
    _tell_loading()
    with stop_on_signal(leave=_leave) as request:
        with request.at_once():  # it takes seconds
            from ccscale.train.loop import train_run

        outcome = train_run(config, request)
    if outcome.finished and _rank() == 0:
        run = shlex.quote(str(folder))
        say(f"look next at its scores, `ccscale evaluate {run}`, and at its clusters, `ccscale report {run}`")
    if args.json and _rank() == 0:
        _print_json({"run": str(folder), "step": outcome.step, "finished": outcome.finished})
    return 0 if outcome.finished else STOPPED


def _tell_loading() -> None:
    """Tell what the silence is that comes next."""
    if "torch" not in sys.modules and _rank() == 0:
        say("loading PyTorch")


def _evaluate(args: argparse.Namespace) -> int:
    _tell_loading()
    from ccscale.evaluate.evaluate import evaluate_run

    result = evaluate_run(
        args.run,
        args.shards,
        args.split,
        probe=args.probes,
        neighbours=args.neighbours,
        merge=args.merge,
        device=args.device,
        workers=args.workers,
        checkpoint=args.checkpoint,
    )
    if result is not None:
        from ccscale.cli.show_evaluation import show_evaluation, tell_notes

        tell_notes(result)
        _print_json(result) if args.json else show_evaluation(result)
        _check_decoded(result)
    return 0


def _predict(args: argparse.Namespace) -> int:
    _tell_loading()
    with stop_on_signal(SIGNALS if args.follow else (), _leave) as request:  # as in `_train`
        from ccscale.evaluate.predict import Wanted, predict_run

        result = predict_run(
            args.run,
            args.shards,
            Wanted(args.out, args.features, args.merged, args.follow, args.idle),
            args.split,
            device=args.device,
            workers=args.workers,
            checkpoint=args.checkpoint,
            request=request,
        )
    if result is not None:
        from ccscale.cli.show_evaluation import show_prediction, tell_notes

        tell_notes(result)
        _print_json(result) if args.json else show_prediction(result)
        _check_decoded(result)
    return 0


def _check_decoded(result: dict[str, Any]) -> None:
    """Refuse data of which no image could be decoded, once that was told: nobody wants clusters of those."""
    if not result["images"] and (count := len(result["undecodable"])):
        raise InputError(
            f"no cluster for any of {counted(count, 'image')}: none can be decoded; are these images?"
        )


def _report(args: argparse.Namespace) -> int:
    _tell_loading()
    from ccscale.report.report import report_run

    result = report_run(args.run, args.compare, args.out, device=args.device, workers=args.workers)
    if args.json:
        _print_json(result)
    else:
        from ccscale.printing import put

        put(f"{result['out']}: {result['bytes'] / 1e6:.1f} MB, open it in a browser", fold=False)
    return 0


def _export(args: argparse.Namespace) -> int:
    _tell_loading()
    from ccscale.evaluate.opened import run_and_checkpoint
    from ccscale.model.export import copy_export

    _, found = run_and_checkpoint(args.run, args.checkpoint)
    copy_export(found.path, args.out)
    if args.json:
        _print_json({"out": str(args.out), "step": found.step})
    else:
        from ccscale.printing import put

        put(
            f"{args.out}: the network of step {found.step}; load it with ccscale.load('{args.out}')",
            fold=False,
        )
    return 0


def _demo(args: argparse.Namespace) -> int:
    _tell_loading()
    from ccscale.cli.show_evaluation import show_demo
    from ccscale.demo import demo

    result = demo(args.out, args.overrides)
    if result is None:
        return STOPPED
    _print_json(result) if args.json else show_demo(result)
    return 0


def _plan(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.overrides)
    _tell_loading()
    from ccscale.cli.show_plan import show_plan
    from ccscale.plan.plan import make_plan

    memory = None if args.gpu_memory is None else round(args.gpu_memory * 1e9)
    plan = make_plan(config, args.nodes, args.gpus_per_node, memory, args.cpus_per_task)
    _print_json(plan.as_json()) if args.json else show_plan(plan)
    return 0 if plan.fits else FAULT


def _config(args: argparse.Namespace) -> int:
    if args.schema:
        _print_json(Config.model_json_schema())
    elif args.recipes:
        for name, about in recipes().items():
            print(f"{name:24}{about}")
    elif args.config is not None:
        sys.stdout.write(load_config(args.config, args.overrides).to_yaml())
    else:
        for key in describe_keys():
            print(f"{key.name}  ({key.kind}; {key.default}; {key.may_change})\n    {key.description}")
    return 0


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def _help(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """Return what is called where no command is given."""

    def call(args: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    return call


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ccscale", description="Groups images without labels, at any scale.")
    parser.add_argument("--version", action="version", version=f"ccscale {version('ccscale')}")
    parser.set_defaults(call=_help(parser))
    verbs = parser.add_subparsers(metavar="COMMAND", parser_class=IntermixedParser)

    def verb(name: str, call: Callable[[argparse.Namespace], int], about: str, more: str = "") -> Any:
        command = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
        command.set_defaults(call=call, goes_on=call in (_demo, _predict))
        return command

    demo = verb(
        "demo", _demo, "handwritten digits, from files to clusters, in minutes", "Run again, it goes on."
    )
    demo.add_argument(
        "--out", type=_file, default=Path("demo"), help="folder for all it makes (default: demo)"
    )
    add_overrides(demo)
    _add_json(demo)

    shards = verbs.add_parser("shards", help="make, index, verify and describe shards")
    shards.set_defaults(call=_help(shards))
    _add_shards(shards.add_subparsers(metavar="COMMAND"))

    train = verb(
        "train",
        _train,
        "train a run, or go on with it",
        "The same command again goes on where the run stopped. Many processes: torchrun --nproc-per-node G -m "
        "ccscale train …",
    )
    train.add_argument("config", metavar="CONFIG", type=path, help=CONFIG)
    add_overrides(train)
    _add_json(train)

    launch = verbs.add_parser(
        "launch",
        help="train runs as jobs of Slurm, or on this machine",
        description="Trains runs as jobs of Slurm, or as processes of this machine.",
    )
    add_launch_arguments(launch)
    launch.set_defaults(call=run_launch, goes_on=False)

    evaluate = verb("evaluate", _evaluate, "measure the clusters of a run")
    evaluate.add_argument("run", metavar="RUN", type=path, help="the run's folder")
    evaluate.add_argument("--shards", metavar="DIR", type=path, help="another data set than the run's")
    evaluate.add_argument(
        "--no-probes",
        "--no-k-means",
        dest="probes",
        action="store_false",
        help="leave out k-means on the features, and nearest neighbours",
    )
    evaluate.add_argument(
        "--neighbours",
        metavar="SPLIT",
        help="look for nearest neighbours in this split (default: among the images themselves)",
    )
    evaluate.add_argument(
        "--merge",
        nargs="?",
        const="backbone",
        choices=("backbone", "instance"),
        help="join the clusters bottom-up, by these features (default: backbone): merge.json, merge.png",
    )
    _add_checkpoint(evaluate)
    _add_assigning(evaluate)

    predict = verb(
        "predict",
        _predict,
        "write the cluster of every image to a table",
        "The same command again goes on where it stopped.",
    )
    predict.add_argument("run", metavar="RUN", type=path, help="the run's folder")
    predict.add_argument(
        "--shards", metavar="DIR", type=path, required=True, help="the images, with labels or without"
    )
    predict.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        required=True,
        help="a .parquet or .csv file, or DIR/ for a part of each piece of a shard",
    )
    predict.add_argument(
        "--features", choices=("backbone", "instance"), help="write these features too (not as CSV)"
    )
    predict.add_argument(
        "--merged", type=count, metavar="K", help="merge to K clusters, by the tree of `evaluate --merge`"
    )
    predict.add_argument(
        "--follow", action="store_true", help="go on with shards that appear, until Ctrl-C or SIGTERM"
    )
    predict.add_argument(
        "--idle", type=amount, metavar="SECONDS", help="stop following after so long without a new shard"
    )
    _add_checkpoint(predict)
    _add_assigning(predict)

    report = verb(
        "report",
        _report,
        "write a run's clusters, curves and map as one HTML file",
        "The run is evaluated first where that was not done since its newest checkpoint.",
    )
    report.add_argument("run", metavar="RUN", type=path, help="the run's folder")
    report.add_argument(
        "--compare", metavar="RUN2", type=path, help="another run of the same images, side by side"
    )
    report.add_argument("--out", metavar="FILE", type=_file, help="the file (default: RUN/report.html)")
    _add_device(report)

    export = verb("export", _export, "copy a run's network out, as safetensors", "ccscale.load reads it.")
    export.add_argument("run", metavar="RUN", type=path, help="the run's folder")
    export.add_argument("out", metavar="OUT", type=_file, help="a new folder")
    _add_checkpoint(export)
    _add_json(export)

    plan = verb(
        "plan",
        _plan,
        "what each rank of a run will hold, send and read, and what does not fit",
        "Nothing is trained or written. Exit code 1: it does not fit the memory; 2: it cannot run there.",
    )
    plan.add_argument("config", metavar="CONFIG", type=path, help=CONFIG)
    plan.add_argument("--nodes", type=number, default=1, metavar="N", help="machines (default: 1)")
    plan.add_argument(
        "--gpus-per-node", type=number, default=1, metavar="G", help="GPUs, thus ranks, of each (default: 1)"
    )
    plan.add_argument(
        "--gpu-memory", type=amount, metavar="GB", help="of each GPU (default: that of the one here, or 80)"
    )
    plan.add_argument(
        "--cpus-per-task", type=number, metavar="C", help="cores of each rank (default: as here)"
    )
    add_overrides(plan)
    _add_json(plan)

    config = verb("config", _config, "list the config's keys, or show a config with all its defaults")
    config.add_argument(
        "config", metavar="CONFIG", nargs="?", type=path, help="a YAML file, or a recipe, to resolve"
    )
    add_overrides(config)
    config.add_argument(
        "--recipes", action="store_true", help="list the recipes, configs that come with ccscale"
    )
    config.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")
    return parser


def _add_shards(verbs: Any) -> None:
    """Add ``shards make|index|verify|info``, which import the data modules only when they are asked for."""
    from ccscale.cli import shards as commands

    for name, about in (
        ("make", "write images as shards"),
        ("index", "make a manifest for tars that others made"),
        ("verify", "check every byte of shards"),
        ("info", "counts, classes and sizes of shards"),
    ):
        command = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        getattr(commands, f"add_{name}_arguments")(command)
        command.set_defaults(call=getattr(commands, f"run_{name}"), goes_on=name == "make")


def _file(text: str) -> Path:
    return Path(path(text))


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="WHICH",
        help="last (default), a step, best (by the information in the assignments: without labels) or best-nmi",
    )


def _add_assigning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", action="append", metavar="NAME", help="a split (again for more)")
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=number, metavar="N", help="loader processes of each rank")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
