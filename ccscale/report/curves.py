"""The lines of ``metrics.jsonl``, and advice on K, as curves: panels of series, thinned to what a screen shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ccscale.evaluate.how_many import describe_vote
from ccscale.report.encoding import rounded

POINTS = 500

# kind of line; title; keys with their names; whether the axis begins at 0
PANELS: tuple[tuple[str, str, dict[str, str], bool], ...] = (
    (
        "step",
        "Losses",
        {"loss": "total", "instance_loss": "instance", "cluster_loss": "cluster"},
        False,
    ),
    ("evaluation", "Scores against the labels", {"acc": "ACC", "nmi": "NMI", "ari": "ARI"}, True),
    ("evaluation", "Effective clusters", {"effective_clusters": "effective clusters"}, True),
    (
        "evaluation",
        "Entropy and information (nats)",
        {"entropy": "entropy of the sizes", "information": "information"},
        True,
    ),
    (
        "evaluation",
        "Confidence",
        {"confidence": "mean confidence", "stability": "stability", "largest": "largest cluster's share"},
        True,
    ),
    (
        "stage",
        "Self-labelling",
        {
            "labelled": "images with a label",
            "agreement": "agreement with the clusters before",
            "stability": "stability",
            "neighbours": "kappa of neighbours",
        },
        True,
    ),
    ("stage", "Clusters without labels", {"unlabelled_clusters": "clusters without labels"}, True),
    ("step", "Images per second", {"images_per_second": "images a second"}, True),
    ("step", "Learning rate", {"lr": "learning rate"}, True),
)


def panels(runs: Sequence[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the panels that some run has numbers for.

    Returns
    -------
    list of dict
        ``title``, ``zero`` (begin the axis at 0) and ``series``: dicts of ``name``, ``run`` (its number), ``every``
        (lines that a point is the mean of, at most), ``x`` (steps) and ``y``. A learning rate that never changes
        makes no panel.
    """
    logs = [list(lines) for lines in runs]
    result = []
    for kind, title, names, zero in PANELS:
        series = [
            {"name": name, "run": run, **found}
            for run, lines in enumerate(logs)
            for key, name in names.items()
            if (found := _series(lines, kind, key)) is not None
        ]
        constant = "lr" in names and len({y for one in series for y in one["y"]}) == 1
        if series and not constant:
            result.append({"title": title, "zero": zero, "series": series})
    return result


def advice(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the curves of advice on the number of clusters (`how_many.advise_run`), a panel for each criterion.

    Returns
    -------
    dict or None
        ``sentence``, ``images``, ``features``, ``heads``, ``heads_vote`` as they are, and ``panels``, as `panels`
        has them, with ``over`` (what the curves are over), ``note``, ``mark`` (the vote) and ``shaded`` (the
        range). None where there is no advice.
    """
    if told is None:
        return None
    shown = []
    for vote in told["votes"]:
        curves = {"these features": vote["values"], "without clusters": vote["null"]}
        series = [
            {
                "name": name,
                "run": 0,
                "every": 1,
                "x": told["tried"],
                "y": [rounded(value) for value in values],
            }
            for name, values in curves.items()
        ]
        panel = {"title": vote["criterion"].capitalize(), "zero": False, "series": series, "over": "clusters"}
        panel |= {"note": describe_vote(vote["clusters"], vote["sees"]), "mark": vote["clusters"]}
        shown.append(panel | ({"shaded": [told["low"], told["high"]]} if told["seen"] else {}))
    kept = {
        name: told[name] for name in ("sentence", "images", "features", "heads", "heads_vote") if name in told
    }
    return kept | {"panels": shown}


def _series(lines: Iterable[dict[str, Any]], kind: str, key: str) -> dict[str, Any] | None:
    """Return the finite values of a key, averaged over neighbours where there are more than `POINTS`."""
    values = {line["step"]: line[key] for line in lines if line["kind"] == kind and line.get(key) is not None}
    if not values:
        return None
    steps = np.array(sorted(values))
    numbers = np.array([values[step] for step in steps.tolist()], dtype=np.float64)
    bins = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    return {
        "every": len(bins[0]),
        "x": [int(steps[part[-1]]) for part in bins],
        "y": [rounded(numbers[part].mean()) for part in bins],
    }
