"""``ccscale how-many STORE``, ``ccscale evaluate RUN --how-many``: advice on the number of clusters, drawn.

    RUN/how-many.json   {"basis", "features", "clusters", "low", "high", "seen", "reason", "sentence", "tried",
                         "votes": [{"criterion", "clusters", "sees", "near", "values", "null"}, …], "heads"?: […]}
    RUN/how-many.png    the curves

Labels are never used, even if there are some.
"""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.draw.curves import Panel, draw_curves
from ccscale.errors import InputError
from ccscale.evaluate.advice import Advice, advise, advise_rows
from ccscale.evaluate.basis import Basis
from ccscale.evaluate.feature_subset import choose_rows
from ccscale.evaluate.votes import NEAR
from ccscale.features.store import open_features

ADVICE, PICTURE = "how-many.json", "how-many.png"
LETTERS = 74  # of a line of the picture


def advise_store(
    store: str | Path, splits: Sequence[str] | None = None, seed: int = 0, picture: Path | None = None
) -> dict[str, Any]:
    """Advise on the number of clusters of a feature store's images.

    Parameters
    ----------
    store : str or Path
        The store's folder.
    splits : sequence of str, optional
        All by default.
    seed : int, default 0
        Of the images that are examined, and of all other random choices.
    picture : Path, optional
        Where the curves are drawn, as a PNG.

    Returns
    -------
    dict
        ``store``, ``splits``, ``picture``, and what `Advice.as_json` has.

    Raises
    ------
    InputError
        If the store or the picture's folder is not there, or there are too few images.
    """
    if picture is not None and not picture.absolute().parent.is_dir():
        raise InputError(f"there is no folder {picture.parent} for {picture.name}; create it first")
    features = open_features(store, splits)
    advice = advise(features, seed, show=True)
    if picture is not None:
        draw_advice(picture, advice)
    facts = {"store": str(store), "splits": list(features.splits)}
    return facts | {"picture": None if picture is None else str(picture)} | advice.as_json()


def advise_run(
    run: Path,
    basis: Basis,
    features: str,
    rows: NDArray[np.floating],
    seed: int,
    heads: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Advise on the number of clusters by a run's features, and write ``how-many.json`` and ``how-many.png``.

    Parameters
    ----------
    run
        Its folder.
    basis
        What the features were made of.
    features
        Which: ``backbone`` or ``instance``.
    rows
        (n, D): of some images.
    seed
        As above.
    heads
        The table of the run's cluster heads (`heads.HeadTallies.table`), where there are several.

    Returns
    -------
    dict
        What is written: what `Advice.as_json` has, ``features``, ``picture``, ``basis``, and where there are heads
        of several K ``heads`` (``clusters`` and ``stability`` of the chosen one of each) and ``heads_vote``, the
        largest K that is nearly as stable as the best: told, but not counted, as they know no other K.
    """

    def take(most: int) -> NDArray[np.floating]:
        return rows[choose_rows(len(rows), seed, most)]

    advice = advise_rows(take, len(rows), f"the evaluation of {run}", seed, show=True)
    chosen = [row for row in heads if row["chosen"]]
    told = {"basis": basis.as_json(), "features": features, "picture": str(run / PICTURE)} | advice.as_json()
    if len(chosen) > 1:
        told["heads"] = [{"clusters": row["clusters"], "stability": row["stability"]} for row in chosen]
        enough = NEAR * max(row["stability"] for row in chosen)
        told["heads_vote"] = max(row["clusters"] for row in chosen if row["stability"] >= enough)
    draw_advice(run / PICTURE, advice)
    atomic.write_bytes(run / ADVICE, (json.dumps(told) + "\n").encode())
    return told


def read_advice(run: Path, basis: Basis) -> dict[str, Any] | None:
    """Return what ``how-many.json`` holds; None if there is none, or it is of something else."""
    try:
        told = json.loads((run / ADVICE).read_bytes())
        return told if Basis.parse(told["basis"]) == basis else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def draw_advice(path: Path, advice: Advice) -> None:
    """Draw the criteria's curves, each with its vote."""
    panels = [
        Panel(one.criterion, describe_vote(one.clusters, one.sees), one.values, one.null, one.clusters)
        for one in advice.votes
    ]
    shaded = (advice.low, advice.high) if advice.seen else None
    about = "blue: these features; grey: such without clusters; over the number of clusters"
    lines = [advice.headline, *textwrap.wrap(advice.reason, LETTERS), about]
    draw_curves(path, lines, advice.tried, panels, shaded)


def describe_vote(clusters: int, sees: bool) -> str:
    """Return a vote in words."""
    return f"votes for {clusters:,}" if sees else "sees no clusters"
