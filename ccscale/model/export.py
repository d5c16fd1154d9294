"""A trained network as plain files: ``model.safetensors`` and ``config.json``, without pickle or DeepSpeed."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ccscale.atomic import new_folder
from ccscale.config import Model, Views
from ccscale.errors import InputError, check_version
from ccscale.model.frozen_file import read_frozen
from ccscale.model.hub import fetch, is_on_hub
from ccscale.model.network import ContrastiveClustering

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
VERSION = 1


def export(
    folder: Path, settings: Model, views: Views, weights: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write a network into an existing folder.

    Parameters
    ----------
    folder
        Where ``model.safetensors`` and ``config.json`` go.
    settings, views
        The config's sections ``model`` and ``views``.
    weights
        The network's state dict.
    facts
        What else a reader may want to know, as JSON: step, epoch, data set; and, where the run keeps weights frozen
        in a file of its own that are not among these, as ``frozen`` its hash (`frozen_file.py`).
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    content = {
        "format": "ccscale-model",
        "version": VERSION,
        "ccscale": version("ccscale"),
        "model": settings.model_dump(mode="json"),
        "image": {"size": views.size, "scaled_decode": views.scaled_decode},
        **facts,
    }
    (folder / CONFIG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def is_export(folder: Path) -> bool:
    """Return whether a folder has an exported network in it."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_settings(folder: Path) -> tuple[Model, dict[str, Any], dict[str, Any]]:
    """Read the config of an exported network: its settings, how its images are read, all that it says.

    Raises
    ------
    InputError
        If there is none in the folder, or it is damaged.
    """
    with _told(folder):
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if content.get("format") != "ccscale-model":
            raise InputError(
                f"{folder / CONFIG} is not the config of an exported network; create one with `ccscale "
                "export RUN OUT`"
            )
        check_version(folder / CONFIG, content.get("version"), VERSION)
        return Model.model_validate(content["model"]), dict(content["image"]), content


def read_export(folder: Path, joined: bool = True) -> tuple[Model, int, dict[str, Tensor]]:
    """Read an exported network: its settings, the side of its images in pixels, its weights.

    To a checkpoint's is joined what its run keeps frozen, unless that is not wanted.

    Raises
    ------
    InputError
        If there is none in the folder, or it is damaged.
    """
    settings, image, facts = read_settings(folder)
    with _told(folder):
        size, weights = int(image["size"]), load_file(folder / WEIGHTS)
    if joined and facts.get("frozen"):
        weights |= _frozen_like(weights, folder.resolve().parents[1], str(facts["frozen"]))
    return settings, size, weights


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say of a folder that there is no exported network in it, or what of it is damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {error.filename or folder / WEIGHTS}; create it with `ccscale export RUN OUT`"
        ) from None
    except (
        OSError,
        KeyError,
        AttributeError,
        TypeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        ValidationError,
        SafetensorError,
    ) as error:
        raise InputError(
            f"the exported network in {folder} cannot be read: {' '.join(str(error).split())}"
        ) from None


def _frozen_like(trained: Mapping[str, Tensor], run: Path, sha256: str) -> dict[str, Tensor]:
    """Return what a run keeps frozen, in the precision of what is trained."""
    kind = next((value.dtype for value in trained.values() if value.is_floating_point()), torch.float32)
    tensors = read_frozen(run, sha256)
    return {key: value.to(kind) if value.is_floating_point() else value for key, value in tensors.items()}


def frozen_of(folder: Path) -> str:
    """Return the hash of what the run of a checkpoint keeps frozen of its network.

    Raises
    ------
    InputError
        If the checkpoint says of none.
    """
    facts = read_settings(folder)[2]
    if not facts.get("frozen"):
        raise InputError(f"{folder / CONFIG} tells of nothing that is frozen of the network")
    return str(facts["frozen"])


def load(
    folder: str | Path, device: str | torch.device = "cpu", *, heads_alone: bool = False
) -> ContrastiveClustering:
    """Load an exported network, ready to predict.

    Parameters
    ----------
    folder : str or Path
        A folder written by ``ccscale export``; loading it needs neither DeepSpeed nor internet access, and nothing
        is unpickled. Or ``hf://OWNER/NAME``, optionally with ``@REVISION``, which is downloaded from the Hugging
        Face Hub unless it is cached.
    device : str or torch.device, default "cpu"
        Device of the network.
    heads_alone : bool, default False
        Leave out the backbone of a run on a feature store, to apply the heads to features.

    Returns
    -------
    ContrastiveClustering
        In evaluation mode. Calling it with (m, C, size, size) images in [0, 1] gives features (m, D),
        embeddings (m, d) and soft assignments (m, K); its `predict` gives clusters and confidences; its `size`
        is the side of the images; its `origin` is the folder, or its name on the Hub with the commit.

    Raises
    ------
    InputError
        If the folder or the Hub has no exported network, or it is damaged.
    Fault
        If the Hub cannot be reached.
    """
    origin, folder = str(folder), fetch(folder) if is_on_hub(folder) else Path(folder)
    if is_on_hub(origin):
        origin = f"{origin.partition('@')[0]}@{folder.name}"
    facts = read_settings(folder)[2]
    heads_alone = "width" in facts and (heads_alone or not facts.get("frozen"))
    settings, size, weights = read_export(folder, joined=not heads_alone)
    # The weights are available: those that training began with are not asked for again.
    network = ContrastiveClustering(settings.bare, size, facts["width"] if heads_alone else None)
    if wrong := differing(network, weights):
        raise InputError(
            f"{folder / WEIGHTS} does not hold the network of its {CONFIG}: '{wrong[0]}' differs"
        )
    network.load_state_dict(weights, assign=True)
    network.origin = origin
    return network.serve(int(facts.get("serves", 0))).to(device).eval()


def differing(network: ContrastiveClustering, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that a network and weights do not both have in one shape, sorted."""
    wanted = network.state_dict()
    return [
        name
        for name in sorted(wanted.keys() | weights.keys())
        if name not in wanted or name not in weights or wanted[name].shape != weights[name].shape
    ]


def copy_export(
    source: Path,
    out: Path,
    heads: Sequence[int] = (),
    serves: int = 0,
) -> None:
    """Copy the exported network of a checkpoint into a new folder, with what the run keeps frozen of it.

    Parameters
    ----------
    source, out
        The two folders.
    heads, serves
        The cluster heads that are chosen, one for each K, and the one that is to serve.

    Raises
    ------
    InputError
        If `out` is there already, or cannot be made.
    """
    with new_folder(out) as part:
        copy_into(part, source, heads, serves)


def copy_into(part: Path, source: Path, heads: Sequence[int] = (), serves: int = 0) -> None:
    """Copy the exported network of a checkpoint, as `copy_export` does, into a folder that is there."""
    content = read_settings(source)[2]
    if content.pop("frozen", None):
        content.pop("width", None)  # it takes images
        save_file(read_export(source)[2], part / WEIGHTS, metadata={"format": "pt"})
    else:
        shutil.copyfile(source / WEIGHTS, part / WEIGHTS)
    chosen = {name: value for name, value in (("heads", list(heads)), ("serves", serves)) if value}
    (part / CONFIG).write_text(json.dumps(content | chosen, indent=1) + "\n", encoding="utf-8")
    shutil.copymode(part / CONFIG, part / WEIGHTS)  # safetensors lets nobody but the owner read
