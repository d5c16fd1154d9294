"""A plan as tables for people, on standard output."""

from rich.console import Console
from rich.table import Column, Table

from ccscale.plan.plan import Plan
from ccscale.plan.rank import MOMENTS

UNITS = ("B", "kB", "MB", "GB", "TB")


def show_plan(plan: Plan) -> None:
    """Print a plan; its last line says whether it fits, or what helps."""
    config, train = plan.config, plan.config.train
    console = Console(highlight=False, soft_wrap=True)
    images = train.global_batch // plan.world
    pieces = "" if config.pieces == 1 else f" in {config.pieces} pieces"
    console.print(
        f"{plan.nodes} × {plan.ranks_per_node} = {plan.world} ranks, {images:,} of {train.global_batch:,} images "
        f"each{pieces}; {config.model.backbone} ({plan.weights / 1e6:.1f} M parameters) at {config.views.size} px, "
        f"{config.model.clusters:,} clusters, {train.precision}, ZeRO {train.zero}",
        markup=False,
    )
    console.print(_memory(plan))
    if plan.rank.sent:
        console.print(_traffic(plan))
    else:
        console.print("One rank alone sends nothing.")
    console.print(_reading(plan), markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    console.print(_verdict(plan), markup=False)


def _memory(plan: Plan) -> Table:
    totals = plan.rank.totals
    columns = (Column(moment, justify="right") for moment in MOMENTS)
    table = Table(Column("memory of a rank"), *columns, title_justify="left")
    for part, numbers in plan.rank.memory.items():
        table.add_row(part, *(_bytes(number) for number in numbers))
    table.add_section()
    most = max(totals, key=totals.__getitem__)
    table.add_row(
        "together",
        *(
            f"[bold]{_bytes(number)}[/bold]" if moment == most else _bytes(number)
            for moment, number in totals.items()
        ),
    )
    return table


def _traffic(plan: Plan) -> Table:
    table = Table("sent in a step", "collective", Column("bytes", justify="right"))
    for entry in plan.rank.sent:
        table.add_row(entry.what, entry.collective.replace("_", "-"), _bytes(entry.bytes))
    table.add_section()
    for collective, number in plan.rank.traffic.items():
        table.add_row("together", collective.replace("_", "-"), _bytes(number))
    return table


def _reading(plan: Plan) -> str:
    loading, reading, config = plan.loading, plan.reading, plan.config
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


def _verdict(plan: Plan) -> str:
    need = f"{_bytes(plan.rank.peak)} of {_bytes(plan.device_bytes)}"
    if plan.fits:
        largest = f"; the largest train.global_batch that does is {plan.largest}" if plan.largest else ""
        return f"fits: a rank takes {need}{largest}"
    remedy = "set " + " or ".join(plan.remedies) if plan.remedies else "use more ranks or a smaller backbone"
    return f"does not fit: a rank takes {need}; {remedy}"


def _bytes(number: int) -> str:
    """Return a number of bytes with three digits: 40 B, 1.23 MB, 85.9 GB."""
    if not number:
        return "-"
    power = 0
    value = float(number)
    while value >= 999.5 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    digits = 0 if power == 0 else max(0, 3 - len(str(int(value))))
    return f"{value:.{digits}f} {UNITS[power]}"
