"""Figures of an evaluation as tables for people, on standard output."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ccscale.evaluate.notes import unscored
from ccscale.printing import Sheet, put
from ccscale.progress import say
from ccscale.wording import counted, verb

NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "f": "F"}
PURITY = {"purity": "purity"}
SHOWN = 20  # rows of a table; the file has all

Rows = Sequence[Mapping[str, Any]]


def show_evaluation(result: dict[str, Any]) -> None:
    """Print what `evaluate.evaluate.evaluate_run` found."""
    splits = ", ".join(result["splits"])
    put(f"{counted(result['images'], 'image')} of {result['shards']} ({splits}), step {result['step']}")
    used = result["clusters"] - result["empty"]
    put(
        f"{used:,} of {counted(result['clusters'], 'cluster')} {verb(used, 'is', 'are')} used, as many as "
        f"{result['effective_clusters']:.1f} equal ones (entropy {result['entropy']:.3f}); the largest holds "
        f"{result['largest']:.1%}; mean confidence {result['confidence']:.3f}; information "
        f"{result['information']:.3f} of at most {math.log(result['clusters']):.3f} nats"
    )
    stability = result["stability"]
    if stability["views"]:
        put(
            f"two views of an image are in the same cluster for {stability['agreement']:.1%} of "
            f"{counted(stability['views'], 'image')}, {stability['chance']:.1%} by chance: stability "
            f"{stability['stability']:.3f}"
        )
    for sentence in result["warnings"]:
        put(f"warning: {sentence}")
    _clusters(result).put()
    if result["labelled"]:
        rows = {"cluster head": result}
        for key, title in (
            ("k_means", "k-means on features"),
            ("k_means_instance", "k-means on embeddings"),
            ("knn", "nearest neighbours"),
        ):
            if key in result:
                rows[title] = result[key]
        put(
            f"against {counted(result['labelled'], 'label')} (ACC: one-to-one matching; purity: many-to-one):"
        )
        _scores(rows, NAMES | PURITY).put()
        if (probed := result.get("probed", result["labelled"])) < result["labelled"]:
            put(f"features: of {counted(probed, 'image')}, by the seed")
    else:
        put(unscored(result["images"], len(result["undecodable"]), result["labels"]))
    if "cuts" in result:
        put("clusters joined, the most alike first:")
        _cuts(result["cuts"]).put()
        put(f"the tree: {result['dendrogram']}", fold=False)


def show_demo(result: dict[str, Any]) -> None:
    """Print what `demo.demo` found."""
    _scores(result["scores"], NAMES).put()
    put(f"clusters, a row each, the surest images first: {result['picture']}", fold=False)
    put(f"all about them, for a browser: {result['report']}", fold=False)


def show_prediction(result: dict[str, Any]) -> None:
    """Print what `evaluate.predict.predict_run` found."""
    where = f"{counted(result['images'], 'image')} in {counted(result['clusters'], 'cluster')}"
    put(f"{result['out']}: {where}", fold=False)


def tell_notes(result: dict[str, Any]) -> None:
    """Tell on standard error what is to be known about the data, and what could not be decoded."""
    for sentence in result["notes"]:
        say(f"note: {sentence}")
    lines = result["undecodable"]
    for line in lines[:10]:
        say(f"no cluster for an image that cannot be decoded: {line}")
    if len(lines) > 10:
        say(f"… and {len(lines) - 10:,} more")


def _scores(rows: dict[str, dict[str, float]], names: dict[str, str]) -> Sheet:
    sheet = Sheet("", *names.values(), text=("",))
    for title, figures in rows.items():
        sheet.add(title, *(_figure(figures.get(name)) for name in names))
    return sheet


def _clusters(result: dict[str, Any]) -> Sheet:
    """Return the largest clusters, a row each."""
    columns = result["per_cluster"]
    sizes = columns["size"]
    largest = sorted(range(len(sizes)), key=lambda cluster: -sizes[cluster])[:SHOWN]
    more = f"the {SHOWN} largest of {len(sizes):,} clusters" if len(sizes) > SHOWN else None
    names = {"size": "images", "confidence": "confidence"}
    if "majority" in columns:
        classes = result["classes"]
        majority = [
            classes[label] if label is not None and label < len(classes) else label
            for label in columns["majority"]
        ]
        columns = columns | {"majority": majority}
        names |= {"majority": "commonest class", "purity": "its share", "entropy": "entropy"}
    sheet = Sheet("cluster", *names.values(), text=("cluster", "commonest class"), title=more)
    for cluster in largest:
        cells = (columns[name][cluster] for name in names)
        sheet.add(str(cluster), *map(_figure, cells))
    return sheet


def _cuts(cuts: Rows) -> Sheet:
    """Return the cuts of a tree, a row each."""
    names = {
        "clusters": "clusters",
        "joined_at": "joined at",
        "stability": "stability",
        "share": "information",
    }
    labelled = {name: title for name, title in (NAMES | PURITY).items() if cuts and name in cuts[0]}
    sheet = Sheet(*(names | labelled).values())
    for row in cuts[:: max(1, -(-len(cuts) // (2 * SHOWN)))]:
        sheet.add(*(_figure(row[name]) for name in names | labelled))
    return sheet


def _figure(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
