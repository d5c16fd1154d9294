"""What several verbs print alike: scores, clusters, notes on images, advice on how many clusters."""

from collections.abc import Callable
from typing import Any

from ccscale.errors import InputError
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import say
from ccscale.wording import class_name, counted

NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "f": "F"}
PURITY = {"purity": "purity"}
SHOWN = 20  # rows of a table; the file has all


def show_or_refuse(
    result: dict[str, Any] | None, as_json: bool, show: Callable[[dict[str, Any]], None]
) -> int:
    """Print what was found of images, and tell notes; None is the result of another rank than the first.

    Raises
    ------
    InputError
        After that, for data of which no image could be decoded: nobody wants clusters of those.
    """
    if result is None:
        return 0
    for sentence in result["notes"]:
        say(f"note: {sentence}")
    lines = result["undecodable"]
    for line in lines[:10]:
        say(f"cannot decode an image, which gets no cluster: {line}")
    if len(lines) > 10:
        say(f"… and {len(lines) - 10:,} more")
    put_json(result) if as_json else show(result)
    if lines and not result["images"] + result.get("unassigned", 0):
        raise InputError(f"none of {counted(len(lines), 'image')} can be decoded; are these images?")
    return 0


def scores_table(rows: dict[str, dict[str, float]], names: dict[str, str]) -> TextTable:
    """Return scores, a row each."""
    table = TextTable("", *names.values(), text=("",))
    for title, figures in rows.items():
        table.add(title, *(figure(figures.get(name)) for name in names))
    return table


def clusters_table(result: dict[str, Any]) -> TextTable:
    """Return the largest clusters, a row each."""
    columns = result["per_cluster"]
    sizes = columns["size"]
    largest = sorted(range(len(sizes)), key=lambda cluster: -sizes[cluster])[:SHOWN]
    more = f"the {SHOWN} largest of {len(sizes):,} clusters" if len(sizes) > SHOWN else None
    names = {"size": "images", "confidence": "confidence"}
    if "names" in result:
        columns = columns | result["names"]
        names |= {"name": "name", "said": "labels that agree", "labels": "of"}
    if "majority" in columns:
        classes = result["classes"]
        majority = [None if label is None else class_name(classes, label) for label in columns["majority"]]
        columns = columns | {"majority": majority}
        names |= {"majority": "most common class", "purity": "purity", "entropy": "entropy"}
    table = TextTable("cluster", *names.values(), text=("cluster", "name", "most common class"), title=more)
    for cluster in largest:
        cells = (columns[name][cluster] for name in names)
        table.add(str(cluster), *map(figure, cells))
    return table


def figure(value: Any) -> str:
    """Return a cell of a table of results."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def show_advice(result: dict[str, Any]) -> None:
    """Print advice: the sentence, and what each criterion votes for."""
    put(f"{result['sentence']} (of {result['images']:,} images)")
    table = TextTable("criterion", "votes for", "nearly as good", text=("criterion",))
    for vote in result["votes"]:
        low, high = vote["near"]
        votes = (f"{vote['clusters']:,}", f"{low:,} to {high:,}") if vote["sees"] else ("no clusters", "")
        table.add(vote["criterion"], *votes)
    table.put()
    if "heads" in result:
        stable = ", ".join(f"{head['stability']:.3f} of {head['clusters']:,}" for head in result["heads"])
        vote = f"{result['heads_vote']:,}"
        put(f"the run's own heads vote for {vote} (not counted): stability {stable} clusters")
    if result["picture"] is not None:
        put(f"curves: {result['picture']}", fold=False)
