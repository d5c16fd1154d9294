"""``ccscale export RUN OUT``: a run's network in a new folder, which appears whole.

::

    OUT/README.md           the model card (`card.py`)
    OUT/config.json         what it is
    OUT/model.safetensors   what `ccscale.load` reads
    OUT/names.json, sureness.npz    where the run has them of this network: `predict` uses them
"""

import json
from pathlib import Path
from typing import Any

from ccscale.atomic import new_folder
from ccscale.checkpoint import Checkpoint
from ccscale.config import Config
from ccscale.evaluate import cluster_names, sureness
from ccscale.evaluate.basis import Basis, weights_of
from ccscale.evaluate.evaluate import FIGURES
from ccscale.evaluate.heads import serving_head
from ccscale.evaluate.notes import no_choice
from ccscale.evaluate.opened import run_and_checkpoint
from ccscale.export import card
from ccscale.export.card import Card
from ccscale.model.export import copy_into, load, read_settings


def export_run(
    run: str | Path,
    out: Path,
    checkpoint: str = "last",
    clusters: int | None = None,
    license: str | None = None,
) -> dict[str, Any]:
    """Export the network of a run.

    Parameters
    ----------
    run
        The run's folder.
    out
        A new folder.
    checkpoint
        Which one; see `checkpoint.choose`.
    clusters
        K, of a run with heads of several; by default the first.
    license
        Of the network, as Hugging Face abbreviates it; by default unknown.

    Returns
    -------
    dict
        ``step``, ``notes`` (sentences).

    Raises
    ------
    InputError
        If there is no such checkpoint, or `out` is there already or cannot be made.
    """
    config, found = run_and_checkpoint(run, checkpoint)
    serves = serving_head(config.model, found.heads, clusters)
    with new_folder(out) as part:
        copy_into(part, found.path, found.heads, serves)
        network = load(found.path).serve(serves)
        about = Card(
            name=out.resolve().name,
            format="safetensors",
            config=config,
            facts=read_settings(found.path)[2],
            clusters=network.k,
            width=network.width,
            evaluation=_evaluation(config, found, serves),
            license=license,
        )
        (part / card.FILE).write_text(about.text(), encoding="utf-8")
        _write_known(part, config, found, serves)
    return {"step": found.step, "notes": [] if found.heads else no_choice(config.model)}


def _write_known(part: Path, config: Config, found: Checkpoint, serves: int) -> None:
    """Write what is known of the clusters and the answers, where it is of this network."""
    of = weights_of(found), serves
    sure, names = (kind.load(config.run_folder) for kind in (sureness.Sureness, cluster_names.ClusterNames))
    if sure is not None and sure.is_of(*of):
        (part / sureness.FILE).write_bytes(sure.to_bytes())
    if names is not None and names.is_of(*of):
        (part / cluster_names.FILE).write_bytes(names.to_bytes())


def _evaluation(config: Config, found: Checkpoint, serves: int) -> dict[str, Any]:
    """Return what the run's evaluation tells of this network; nothing where it is of another one."""
    try:
        told: dict[str, Any] = json.loads((config.run_folder / FIGURES).read_bytes())
        basis = Basis.parse(told["basis"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    same = basis is not None and (basis.weights, basis.head) == (weights_of(found), serves)
    return told if same else {}
