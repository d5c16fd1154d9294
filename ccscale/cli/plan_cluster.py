"""``ccscale plan --cluster``: a step's timeline on many GPUs, simulated from the parts of a step of one."""

import argparse
from typing import TYPE_CHECKING

from ccscale.cli.arguments import amount, count, path
from ccscale.config import Config
from ccscale.errors import InputError
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import loading

if TYPE_CHECKING:
    from ccscale.plan.links import Links
    from ccscale.plan.scaling import Size
    from ccscale.plan.step_parts import StepParts

NODE = 8  # GPUs of a machine by default


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--cluster` and the options that apply only with it."""
    group = parser.add_argument_group("simulation of many GPUs")
    group.add_argument(
        "--cluster",
        action="store_true",
        help="take some steps here in one process, and simulate a step on many such GPUs: waiting times and "
        f"efficiency; the default of --gpus-per-node is then {NODE}",
    )
    group.add_argument("--sizes", type=count, nargs="+", metavar="N", help="GPUs (default: 8, 16, ... 4096)")
    group.add_argument(
        "--images-per-gpu",
        type=count,
        metavar="N",
        help="images per GPU and step at every size (default: train.global_batch / (--nodes × --gpus-per-node))",
    )
    group.add_argument(
        "--parts",
        metavar="FILE",
        type=path,
        help="output of --cluster --json on another machine: use its measurements instead of this machine's",
    )
    group.add_argument(
        "--nvlink",
        type=amount,
        default=450,
        metavar="GB/S",
        help="bandwidth of each GPU within its machine (default: 450)",
    )
    group.add_argument(
        "--network",
        type=amount,
        default=400,
        metavar="GBIT/S",
        help="bandwidth of a network card (default: 400)",
    )
    group.add_argument(
        "--cards", type=count, metavar="N", help="network cards of a machine (default: one per GPU)"
    )
    group.add_argument(
        "--picture", type=path, metavar="FILE.png", help="draw computation and communication of a step"
    )
    for name, default, what in (
        ("collective", 10, "start-up time of a collective"),
        ("hop-inside", 1, "latency between GPUs in a machine"),
        ("hop-between", 5, "latency between machines"),
        ("hop-gloo", 50, "latency between processes over TCP"),
    ):
        group.add_argument(
            f"--{name}", type=amount, default=default, metavar="US", help=f"{what} (default: {default} µs)"
        )


def run_cluster(args: argparse.Namespace, config: Config) -> int:
    """Measure or read the parts of a step, and print the simulation of each size."""
    with loading():
        from ccscale.plan.scaling import SIZES, simulate
        from ccscale.plan.step_parts import measure_parts, read_parts

    for name in ("nvlink", "network"):
        if not getattr(args, name):
            raise InputError(f"--{name} must be above 0")
    per_node = args.gpus_per_node or NODE
    if args.parts is None:
        images = args.images_per_gpu or config.train.global_batch // max(1, args.nodes * per_node)
        parts = measure_parts(config, max(1, images))
    else:
        parts = read_parts(args.parts)
        if args.images_per_gpu not in (None, parts.images):
            raise InputError(f"{args.parts} is for {parts.images} images per GPU: leave out --images-per-gpu")
    links = _links(args, per_node, parts.cuda)
    sizes = simulate(config, parts, links, args.sizes or SIZES)
    if args.picture is not None:
        _draw(args.picture, parts, sizes)
    if args.json:
        put_json(
            {"parts": parts.as_json(), "links": links.as_json(), "sizes": [size.as_json() for size in sizes]}
        )
    else:
        _show(config, parts, links, sizes)
    return 0


def _links(args: argparse.Namespace, per_node: int, cuda: bool) -> "Links":
    from ccscale.plan.links import Links

    cards = args.cards or per_node
    bandwidths = args.nvlink * 1e9, args.network * 1e9 / 8, cards
    latencies = [us / 1e6 for us in (args.collective, args.hop_inside, args.hop_between, args.hop_gloo)]
    links = Links(per_node, *bandwidths, *latencies)
    return links if cuda else links.by_gloo


def _show(config: Config, parts: "StepParts", links: "Links", sizes: list["Size"]) -> None:
    network = f"{config.model.backbone} at {config.views.size} px"
    if config.data.features is not None:
        network = "heads on features"
    put(
        f"{parts.images:,} images per GPU, {network}, "
        f"{config.train.precision}, ZeRO {config.train.zero}, on {parts.device}; a machine has {links.per_node}, "
        f"{links.inside / 1e9:g} GB/s inside and {links.cards} × {links.card * 8 / 1e9:g} Gb/s to the others",
        fold=False,
    )
    heads = "step", "losses", "batch norm", "gradients", "other waits", "hidden"
    table = TextTable("GPUs", "global batch", *heads, "efficiency", "with gradients hidden")
    for size in sizes:
        waited = size.timeline.waited
        norm = waited["batch norm, forward"] + waited["batch norm, backward"]
        rest = sum(waited.values()) - norm - waited["gradients"]
        table.add(
            f"{size.ranks:,}",
            f"{size.global_batch:,}",
            *map(_ms, (size.seconds, size.losses, norm, waited["gradients"], rest, size.hidden)),
            f"{size.efficiency:.1%}",
            f"{size.if_hidden:.1%}",
        )
    table.put()
    put(
        "simulated, in ms: a step; in it the losses (which grow with the batch), waiting for communication, and "
        "communication hidden by computation; efficiency: images per second and GPU, relative to a single GPU"
    )
    slow = [size for size in sizes if size.host >= size.seconds]
    if slow:
        put(
            f"note: from {slow[0].ranks:,} GPUs on, the host is slower than its GPU: agreement of all ranks over "
            f"gloo takes {_ms(slow[0].host)} ms per step"
        )
    if config.data.lanes is None and sizes[-1].ranks > 64:
        put("note: more than 64 ranks need data.lanes, set to a multiple of their number")
    if not parts.cuda:
        put("note: measured on a CPU, whose ranks communicate over gloo: these figures do not apply to GPUs")


def _draw(picture: str, parts: "StepParts", sizes: list["Size"]) -> None:
    from ccscale.draw.step_lanes import Block, draw_steps
    from ccscale.plan.step_timeline import NETWORK

    draw_steps(
        picture,
        f"A step of {parts.images:,} images a GPU on {parts.device}, simulated",
        [
            (
                f"{size.ranks:,} GPUs: {_ms(size.seconds)} ms, {size.efficiency:.0%}",
                size.seconds,
                (Block(span.lane == NETWORK, *span[1:]) for span in size.timeline.spans),
            )
            for size in sizes
        ],
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
