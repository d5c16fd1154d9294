"""Figures of an evaluation as tables for people, on standard output."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "f": "F"}
PURITY = {"purity": "purity"}
SHOWN = 20  # rows of a table; the file has all

Rows = Sequence[Mapping[str, Any]]


def show_evaluation(result: dict[str, Any]) -> None:
    """Print what `evaluate.evaluate.evaluate_run` found."""
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False)

    splits = ", ".join(result["splits"])
    say(f"{result['images']:,} images of {result['shards']} ({splits}), step {result['step']}")
    used = result["clusters"] - result["empty"]
    say(
        f"{used} of {result['clusters']} clusters are used, as many as {result['effective_clusters']:.1f} equal "
        f"ones (entropy {result['entropy']:.3f}); the largest holds {result['largest']:.1%}; mean confidence "
        f"{result['confidence']:.3f}; information {result['information']:.3f} of at most "
        f"{math.log(result['clusters']):.3f} nats"
    )
    stability = result["stability"]
    if stability["views"]:
        say(
            f"two views of an image are in the same cluster for {stability['agreement']:.1%} of "
            f"{stability['views']:,} images, {stability['chance']:.1%} by chance: stability "
            f"{stability['stability']:.3f}"
        )
    for sentence in result["warnings"]:
        say(f"warning: {sentence}")
    console.print(_clusters(result))
    if result["labelled"]:
        rows = {"cluster head": result}
        for key, title in (
            ("k_means", "k-means on features"),
            ("k_means_instance", "k-means on embeddings"),
            ("knn", "nearest neighbours"),
        ):
            if key in result:
                rows[title] = result[key]
        say(f"against {result['labelled']:,} labels (ACC: one-to-one matching; purity: many-to-one):")
        console.print(_scores(rows, NAMES | PURITY))
        if (probed := result.get("probed", result["labelled"])) < result["labelled"]:
            say(f"features: of {probed:,} images, by the seed")
    else:
        say("There are no labels: ACC, NMI, ARI and F cannot be measured.")
    if "cuts" in result:
        say("clusters joined, the most alike first:")
        console.print(_cuts(result["cuts"]))
        console.print(f"the tree: {result['dendrogram']}", markup=False, soft_wrap=True)


def show_demo(result: dict[str, Any]) -> None:
    """Print what `demo.demo` found."""
    console = Console(highlight=False)
    console.print(_scores(result["scores"], NAMES))
    console.print(
        f"clusters, a row each, the surest images first: {result['picture']}\n"
        f"all about them, for a browser: {result['report']}",
        markup=False,
        soft_wrap=True,
    )


def show_prediction(result: dict[str, Any]) -> None:
    """Print what `evaluate.predict.predict_run` found."""
    print(f"{result['out']}: {result['images']:,} images in {result['clusters']} clusters")


def tell_notes(result: dict[str, Any]) -> None:
    """Tell on standard error what is to be known about the data, and what could not be decoded."""
    for sentence in result["notes"]:
        print(f"note: {sentence}", file=sys.stderr)
    lines = result["undecodable"]
    for line in lines[:10]:
        print(f"no cluster for an image that cannot be decoded: {line}", file=sys.stderr)
    if len(lines) > 10:
        print(f"… and {len(lines) - 10} more", file=sys.stderr)


def _scores(rows: dict[str, dict[str, float]], names: dict[str, str]) -> Table:
    table = Table("")
    for name in names.values():
        table.add_column(name, justify="right")
    for title, figures in rows.items():
        table.add_row(title, *(_figure(figures.get(name)) for name in names))
    return table


def _clusters(result: dict[str, Any]) -> Table:
    """Return the largest clusters, a row each."""
    columns = result["per_cluster"]
    sizes = columns["size"]
    largest = sorted(range(len(sizes)), key=lambda cluster: -sizes[cluster])[:SHOWN]
    more = f"the {SHOWN} largest of {len(sizes):,} clusters" if len(sizes) > SHOWN else None
    table = Table("cluster", title=more, title_justify="left")
    names = {"size": "images", "confidence": "confidence"}
    if "majority" in columns:
        classes = result["classes"]
        majority = [
            classes[label] if label is not None and label < len(classes) else label
            for label in columns["majority"]
        ]
        columns = columns | {"majority": majority}
        names |= {"majority": "commonest class", "purity": "its share", "entropy": "entropy"}
    for title in names.values():
        table.add_column(title, justify="right")
    for cluster in largest:
        cells = (columns[name][cluster] for name in names)
        table.add_row(str(cluster), *map(_figure, cells))
    return table


def _cuts(cuts: Rows) -> Table:
    """Return the cuts of a tree, a row each."""
    names = {
        "clusters": "clusters",
        "joined_at": "joined at",
        "stability": "stability",
        "share": "information",
    }
    labelled = {name: title for name, title in (NAMES | PURITY).items() if cuts and name in cuts[0]}
    table = Table(*())
    for title in (names | labelled).values():
        table.add_column(title, justify="right")
    for row in cuts[:: max(1, -(-len(cuts) // (2 * SHOWN)))]:
        table.add_row(*(_figure(row[name]) for name in names | labelled))
    return table


def _figure(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
