"""The backbone: any timm model without its classifier, with a stem for small images if requested."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ccscale import dist
from ccscale.config import Model
from ccscale.errors import InputError, did_you_mean, first_line
from ccscale.model.named_weights import NAMED, describe, read_named
from ccscale.model.small_maps import multiply_small_maps
from ccscale.unimported import timm


class NoBackbone(nn.Module):
    """Stands where there is no backbone: the network takes features."""

    def forward(self, images: Tensor) -> Tensor:
        """Refuse images."""
        raise InputError(
            "this network takes features, not images: the feature store it was trained on was not made "
            "by a backbone"
        )


def build_backbone(settings: Model, size: int) -> nn.Module:
    """Build the backbone of a config.

    Parameters
    ----------
    settings
        The config's section ``model``.
    size
        Side of the images in pixels, for models that are built for one size (vision transformers).

    Returns
    -------
    nn.Module
        (m, C, size, size) -> (m, D), if `try_backbone` says so.

    Raises
    ------
    InputError
        For an unknown name, weights that cannot be had, or a small stem where there is no convolution.
    """
    backbone = create_backbone(settings, size, settings.pretrained)
    if settings.weights in NAMED:
        weights = adapted(read_named(settings.weights, backbone, settings.backbone), backbone)
        with torch.no_grad():
            backbone.load_state_dict(weights)
        wanted = "" if settings.normalize else "; they were trained with model.normalize=true"
        dist.say(f"{describe(NAMED[settings.weights])}{wanted}")
    elif settings.weights is not None:
        _load_weights(backbone, Path(settings.weights), settings.stem == "small")
    return backbone


def create_backbone(settings: Model, size: int, pretrained: bool) -> nn.Module:
    """Have timm make a config's backbone, and put the stem in; weights from a file are not read."""
    name, (base, _, tag) = settings.backbone, settings.backbone.partition(".")
    if not timm.is_model(base):
        raise InputError(
            f"timm has no model '{name}' (model.backbone)"
            + (
                did_you_mean(name, timm.list_models())
                or "; `python -c 'import timm; print(timm.list_models())'` lists them"
            )
        )
    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError:
        tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{base}.*")]
        told = f"; it has {', '.join(tags)}" if tags else ""
        raise InputError(
            f"timm has no weights '{tag}' of '{base}' (model.backbone){did_you_mean(tag, tags) or told}; '{base}' "
            "alone takes timm's choice"
        ) from None
    options: dict[str, Any] = {
        "img_size": size
        if known is not None and known.fixed_input_size
        else None,  # timm leaves out what is None
        "drop_path_rate": settings.drop_path,
        "drop_rate": settings.dropout,
    }
    if settings.in_chans != 3:
        options["in_chans"] = settings.in_chans
    try:
        backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except Exception as error:
        for key, option in (
            ("drop_path", "drop_path_rate"),
            ("dropout", "drop_rate"),
            ("in_chans", "in_chans"),
        ):
            if isinstance(error, TypeError) and f"'{option}'" in str(error):
                raise InputError(f"'{name}' does not support model.{key}: leave it out") from None
        if pretrained:
            raise InputError(
                f"the pretrained weights of '{name}' are not available ({first_line(error)}); download "
                "them on a machine with internet access, or give a file as model.weights=FILE.safetensors"
            ) from error
        raise InputError(
            f"timm cannot build '{name}' for images of {size} pixels ({first_line(error)}): "
            + other_backbone(name, size)
        ) from error
    if settings.stem == "small":
        _use_small_stem(backbone, name)
    multiply_small_maps(backbone)
    return backbone


def adapted(weights: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Return weights whose first convolution is for as many channels as the backbone's, as timm adapts them.

    Summed for one channel, repeated and scaled for several; others than those of red, green and blue stay as they
    are.
    """
    stem = _first_convolution(backbone) + ".weight"
    given, wanted = weights.get(stem), backbone.state_dict().get(stem)
    if given is None or wanted is None or given.shape[1] != 3 or given.shape[2:] != wanted.shape[2:]:
        return dict(weights)
    return dict(weights) | {stem: timm.models.adapt_input_conv(wanted.shape[1], given)}


def other_backbone(name: str, size: int) -> str:
    """Return what to do where a backbone does not take images of a size."""
    made_for = (getattr(timm.get_pretrained_cfg(name), "input_size", None) or (3, size, size))[-1]
    instead = f"set views.size={made_for}, or " if made_for != size else ""
    return f"{instead}choose another one (model.backbone)"


def _use_small_stem(backbone: nn.Module, name: str) -> None:
    """Replace the first convolution by 3x3 with stride 1 and drop the pool behind the stem."""
    path = _first_convolution(backbone)
    first = backbone.get_submodule(path) if path else None
    if not isinstance(first, nn.Conv2d) or "patch_embed" in path:  # that one cuts tokens
        raise InputError(
            f"model.stem is small, and '{name}' does not begin with a convolution; use model.stem=standard"
        )
    small = nn.Conv2d(
        first.in_channels, first.out_channels, kernel_size=3, stride=1, padding=1, bias=first.bias is not None
    )
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    parent, _, attribute = path.rpartition(".")
    setattr(backbone.get_submodule(parent), attribute, small)
    if hasattr(backbone, "maxpool"):
        backbone.maxpool = nn.Identity()


def has_one_stem(backbone: nn.Module) -> bool:
    """Return whether images go into one convolution and are not looked at elsewhere; a CrossViT scales them."""
    first = getattr(backbone, "pretrained_cfg", {}).get("first_conv")
    return bool(first) and isinstance(first, str)


def _first_convolution(backbone: nn.Module) -> str:
    """Return the name of the first convolution, as timm's own config of the model gives it."""
    first = getattr(backbone, "pretrained_cfg", {}).get("first_conv") or ""
    return first if isinstance(first, str) else first[0]


def _load_weights(backbone: nn.Module, path: Path, small_stem: bool) -> None:
    """Load a backbone's weights, from a bare state dict or from a model that `ccscale export` wrote."""
    try:
        weights = load_file(path)
    except FileNotFoundError:
        hint = did_you_mean(str(path), NAMED) or f"; by name there is {', '.join(NAMED)}"
        raise InputError(f"there is no file {path} (model.weights){hint}") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a safetensors file (model.weights): {first_line(error)}") from None
    prefix = "backbone."
    if any(key.startswith(prefix) for key in weights):
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    wanted = backbone.state_dict()
    stem = _first_convolution(backbone) + ".weight"
    if (
        small_stem
        and stem in weights
        and stem in wanted
        and weights[stem].shape[2:] != wanted[stem].shape[2:]
    ):
        weights[stem] = wanted[stem]  # a small stem has no counterpart in weights of the standard one
    weights = adapted(weights, backbone)
    missing = [
        key for key, value in wanted.items() if key not in weights or weights[key].shape != value.shape
    ]
    if missing:
        raise InputError(
            f"{path} does not fit the backbone (model.weights): {len(missing)} of its {len(wanted)} "
            f"tensors are missing or have another shape, first '{missing[0]}'"
        )
    with torch.no_grad():
        backbone.load_state_dict({key: weights[key] for key in wanted})
