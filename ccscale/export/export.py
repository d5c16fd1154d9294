"""``ccscale export RUN OUT``: writes a run's network to a new folder, atomically.

::

    OUT/README.md           the model card (`card.py`)
    safetensors     OUT/model.safetensors, config.json   what `ccscale.load` and `predict` read
                    OUT/names.json, sureness.npz         where the run has them of this network
    onnx            OUT/model.onnx, config.json, names.json
    torch-export    OUT/model.pt2, config.json, names.json
    timm            OUT/model.safetensors, config.json   the backbone alone, as timm has them
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ccscale.atomic import new_folder
from ccscale.checkpoint import Checkpoint
from ccscale.config import Config
from ccscale.evaluate import cluster_names, reliability
from ccscale.evaluate.basis import Basis, weights_of
from ccscale.evaluate.evaluate import FIGURES
from ccscale.evaluate.heads import serving_head
from ccscale.evaluate.notes import no_choice
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.export import card
from ccscale.export.card import Card
from ccscale.export.program import FILES, OUTPUTS, write_program
from ccscale.export.timm_files import write_timm
from ccscale.model.export import CONFIG, copy_into, load, read_settings
from ccscale.model.network import ContrastiveClustering

VERSION = 1  # of the config.json beside a program


def export_run(
    run: str | Path,
    out: Path,
    format: str = "safetensors",
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
    format
        ``safetensors``, ``onnx``, ``torch-export`` or ``timm``.
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
        If there is no such checkpoint, `out` is there already or cannot be made, or the format does not suit.
    Fault
        If the network cannot be made a program.
    """
    config, found = run_and_checkpoint(run, checkpoint)
    serves = serving_head(config.model, found.heads, clusters)
    with new_folder(out) as part:
        network = load(found.path).serve(serves)
        facts = read_settings(found.path)[2]
        if format == "safetensors":
            copy_into(part, found.path, found.heads, serves)
        elif format == "timm":
            write_timm(network, part)
        else:
            write_program(network, part / FILES[format], format)
            (part / CONFIG).write_text(_describe_program(network, format, facts), encoding="utf-8")
        about = Card(
            name=out.resolve().name,
            format=format,
            config=config,
            facts=facts,
            clusters=network.k,
            width=network.width,
            evaluation=_evaluation(config, found, serves),
            license=license,
        )
        (part / card.FILE).write_text(about.text(), encoding="utf-8")
        if format != "timm":
            _write_known(part, config, found, serves, sure=format == "safetensors")
    return {"step": found.step, "notes": [] if found.heads else no_choice(config.model)}


def _describe_program(network: ContrastiveClustering, format: str, facts: dict[str, Any]) -> str:
    """Return the ``config.json`` of a program."""
    told = {name: facts[name] for name in ("step", "epoch", "data") if name in facts}
    content: dict[str, Any] = {
        "format": f"ccscale-{format}",
        "version": VERSION,
        "ccscale": version("ccscale"),
        "file": FILES[format],
        "images": {
            "type": "float32" if network.settings.of_channels else "uint8",
            "shape": ["batch", "height", "width", network.settings.in_chans],
            "size": network.size,
        },
        "outputs": list(OUTPUTS),
        "clusters": network.k,
        "width": network.width,
    }
    return json.dumps(content | told, indent=1) + "\n"


def _write_known(part: Path, config: Config, found: Checkpoint, serves: int, sure: bool) -> None:
    """Write what is known of the clusters and the answers, where it is of this network."""
    of = weights_of(found), serves
    answers = reliability.Reliability.load(config.run_folder)
    names = cluster_names.ClusterNames.load(config.run_folder)
    if sure and answers is not None and answers.is_of(*of):
        (part / reliability.FILE).write_bytes(answers.to_bytes())
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
