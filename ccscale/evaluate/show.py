"""Figures of an evaluation as tables for people, on standard output."""

from typing import Any

from rich.console import Console
from rich.table import Table

NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "f": "F"}


def show_evaluation(result: dict[str, Any]) -> None:
    """Print what `evaluate.evaluate.evaluate` found."""
    console = Console(highlight=False)
    splits = ", ".join(result["splits"])
    console.print(
        f"{result['images']:,} images of {result['shards']} ({splits}), step {result['step']}", markup=False
    )
    used = result["clusters"] - result["empty"]
    console.print(
        f"{used} of {result['clusters']} clusters are used, as many as {result['effective_clusters']:.1f} equal "
        f"ones (entropy {result['entropy']:.3f}); the largest holds {result['largest']:.1%}; mean confidence "
        f"{result['confidence']:.3f}"
    )
    console.print("sizes: " + ", ".join(f"{size:,}" for size in result["sizes"]))
    if not result["labelled"]:
        console.print("There are no labels: ACC, NMI, ARI and F cannot be measured.")
        return
    rows = {"cluster head": result}
    if "k_means" in result:
        rows["k-means on features"] = result["k_means"]
    console.print(f"against {result['labelled']:,} labels:")
    console.print(_scores(rows))


def show_demo(result: dict[str, Any]) -> None:
    """Print what `demo.demo` found."""
    console = Console(highlight=False)
    console.print(_scores(result["scores"]))
    console.print(
        f"clusters, a row each, the surest images first: {result['picture']}", markup=False, soft_wrap=True
    )


def _scores(rows: dict[str, dict[str, float]]) -> Table:
    table = Table("")
    for name in NAMES.values():
        table.add_column(name, justify="right")
    for title, figures in rows.items():
        table.add_row(title, *(f"{figures[name]:.3f}" for name in NAMES))
    return table
