"""``ccscale plan``: tells what each rank holds, sends and reads, and whether it fits."""

import argparse
from typing import TYPE_CHECKING

from rich.filesize import decimal

from ccscale.cli.arguments import add_config, add_json, amount, number
from ccscale.cli.plan_cluster import add_cluster_arguments, run_cluster
from ccscale.config.file import load_config
from ccscale.exit_codes import FAULT
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import duration, loading

if TYPE_CHECKING:
    from ccscale.plan.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--nodes", type=number, default=1, metavar="N", help="machines (default: 1)")
    parser.add_argument(
        "--gpus-per-node",
        type=number,
        metavar="G",
        help="GPUs, and therefore ranks, of each machine (default: 1)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=amount,
        metavar="GB",
        help="memory of each GPU (default: that of the GPU here, or 80)",
    )
    parser.add_argument(
        "--cpus-per-task", type=number, metavar="C", help="cores of each rank (default: as on this machine)"
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also take some steps here, in one process, and estimate how long the run will take",
    )
    add_cluster_arguments(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.overrides)
    if args.cluster:
        return run_cluster(args, config)
    with loading():
        from ccscale.plan.plan import make_plan

    memory = None if args.gpu_memory is None else round(args.gpu_memory * 1e9)
    ranks = 1 if args.gpus_per_node is None else args.gpus_per_node
    plan = make_plan(config, args.nodes, ranks, memory, args.cpus_per_task, args.measure)
    put_json(plan.as_json()) if args.json else show_plan(plan)
    return 0 if plan.fits else FAULT


def show_plan(plan: "Plan") -> None:
    """Print a plan; its last line says whether it fits, or what helps."""
    config, train = plan.rank.config, plan.rank.config.train
    images = train.global_batch // plan.world
    micro_batches = "" if config.micro_batches == 1 else f" in {config.micro_batches} micro-batches"
    clusters = " and ".join(f"{k:,}" for k in config.model.cluster_counts)
    heads = "" if config.model.heads == 1 else f" by {config.model.heads} heads"
    backbone = f"{config.model.backbone} ({plan.rank.network.weights / 1e6:.1f} M parameters)"
    if config.data.features is not None:
        backbone = (
            f"heads{backbone.removeprefix(config.model.backbone)} on features of {config.model.backbone}"
        )
    put(
        f"{plan.nodes} × {plan.ranks_per_node} = {plan.world} ranks, {images:,} of {train.global_batch:,} images "
        f"each{micro_batches}; {backbone} at "
        f"{config.views.size} px, {clusters} clusters{heads}, {train.precision}, ZeRO {train.zero}",
        fold=False,
    )
    _memory(plan).put()
    if plan.rank.sent:
        _traffic(plan).put()
    else:
        put("A single rank sends nothing.")
    put(_reading(plan), fold=False)
    if (pace := plan.pace) is not None:
        from ccscale.train.data_waits import rates

        labels = "" if pace.boost_step is None else f", a step of self-labelling {duration(pace.boost_step)}"
        put(
            f"measured here, by one process on {pace.device}: a step takes {duration(pace.step)}, an epoch "
            f"{duration(pace.epoch)}{labels}, all steps {duration(pace.total)}, without evaluations; the "
            f"process holds {_bytes(pace.bytes)} of the host's memory",
            fold=False,
        )
        put(rates(train.global_batch, pace.step, pace.wait, pace.workers), fold=False)
    for note in plan.notes:
        put(f"note: {note}", fold=False)
    put(_verdict(plan), fold=False)


def _memory(plan: "Plan") -> TextTable:
    totals = plan.rank.totals
    table = TextTable("memory of a rank", *totals, text=("memory of a rank",))
    for part, numbers in plan.rank.memory.items():
        table.add(part, *(_bytes(number) for number in numbers))
    table.rule()
    most = list(totals).index(max(totals, key=totals.__getitem__))
    table.add("together", *map(_bytes, totals.values()), bold=1 + most)
    return table


def _traffic(plan: "Plan") -> TextTable:
    table = TextTable("sent in a step", "collective", "bytes", text=("sent in a step", "collective"))
    for entry in plan.rank.sent:
        table.add(entry.what, entry.collective.replace("_", "-"), _bytes(entry.bytes))
    table.rule()
    for collective, sent in plan.rank.traffic.items():
        table.add("together", collective.replace("_", "-"), _bytes(sent))
    return table


def _reading(plan: "Plan") -> str:
    loading, reading, config = plan.loading, plan.reading, plan.rank.config
    processes = "1 loader process" if loading.workers == 1 else f"{loading.workers} loader processes"
    blocks = f" and {_bytes(loading.blocks)} of remote shards" if loading.blocks else ""
    loader = (
        f"a rank reads {loading.lanes} of {config.lanes} lanes with {processes}; the host's memory holds "
        f"{_bytes(loading.batches)} of its batches{blocks}, and of a checkpoint, while it is written, "
        f"{_bytes(plan.rank.checkpoint)}"
    )
    if reading is None:
        return loader
    touched = f", of which a rank reads {reading.rank_shards:,} in an epoch" if reading.rank_shards else ""
    return (
        f"{reading.images:,} images in {reading.shards:,} shards{touched}; {reading.steps_per_epoch:,} steps an "
        f"epoch, which leave {reading.dropped:,} images out, {reading.steps:,} steps in all; {loader}"
    )


def _verdict(plan: "Plan") -> str:
    need = f"{_bytes(plan.rank.peak)} of {_bytes(plan.device_bytes)}"
    if plan.fits:
        largest = f"; the largest train.global_batch that does is {plan.largest}" if plan.largest else ""
        return f"fits: a rank takes {need}{largest}"
    remedy = "set " + " or ".join(plan.remedies) if plan.remedies else "use more ranks or a smaller backbone"
    return f"does not fit: a rank takes {need}; {remedy}"


def _bytes(number: int) -> str:
    return decimal(number, precision=2) if number else "-"  # what does not fit may miss by little
