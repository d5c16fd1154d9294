"""Freezes parts of a backbone: no gradients, no updates of batch-norm statistics, no randomness.

timm groups a backbone's tensors by `group_matcher`: a stem, and stage after stage behind it (the layers of a
ResNet, the blocks of a vision transformer; what comes behind the last of them is one more). ``model.freeze: N``
freezes the stem and the first N stages, ``all`` the whole. What is frozen stays in evaluation mode while the rest
is trained, so that autograd keeps nothing of its pass.

Under autocast the weights of linear maps and convolutions are rounded in each pass to the type that it computes in.
Those that are frozen can be kept in that type: the same numbers, half the memory.
"""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import nn

from ccscale.config import Model
from ccscale.errors import InputError
from ccscale.model.small_maps import SmallMapConv2d
from ccscale.unimported import timm
from ccscale.wording import counted

ROUNDED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    SmallMapConv2d,
    timm.layers.Conv2dSame,
    timm.layers.Linear,
)
"""What uses its weights as they are, and autocast rounds them; no layer that makes others of its own."""


@dataclass(frozen=True)
class FrozenPart:
    """The frozen part of a backbone.

    Attributes
    ----------
    names
        Of its tensors in the backbone's state dict.
    modules
        The largest modules that lie in it whole.
    is_all
        Whether it is the whole backbone.
    kind
        The type that its linear maps and convolutions are kept in, and the backbone computes in; None: as all else.
    """

    names: frozenset[str] = frozenset()
    modules: tuple[nn.Module, ...] = field(default=(), repr=False)
    is_all: bool = False
    kind: torch.dtype | None = None

    def keep_still(self) -> None:
        """Put it into evaluation mode, in which it stays while the rest is trained."""
        for module in self.modules:
            module.eval()

    def kept_as(self, kind: torch.dtype) -> Self:
        """Keep the weights of linear maps and convolutions in a type, in place; return the part that says so."""
        for parameter in self.rounded():
            parameter.data = parameter.data.to(kind)
        return replace(self, kind=kind if self.modules else None)

    def rounded(self) -> list[nn.Parameter]:
        """Return the weights and biases of linear maps and convolutions, which autocast rounds."""
        layers = (layer for module in self.modules for layer in module.modules() if type(layer) in ROUNDED)
        return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]


def freeze(backbone: nn.Module, settings: Model) -> FrozenPart:
    """Freeze what a config's ``model.freeze`` says of a backbone, and return it.

    Raises
    ------
    InputError
        For a number of stages that the backbone does not have.
    """
    if settings.freeze == "none":
        return FrozenPart()
    names = frozenset(backbone.state_dict())
    if settings.freeze != "all":
        names = _first_stages(backbone, settings)
    for name, parameter in backbone.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    part = FrozenPart(names, tuple(_whole_modules(backbone, "", names)), settings.freeze == "all")
    part.keep_still()
    return part


def _first_stages(backbone: Any, settings: Model) -> frozenset[str]:
    """Return the names of the tensors of the stem and the stages to freeze."""
    wanted, name = settings.freeze, settings.backbone
    tensors: Any = SimpleNamespace(
        named_parameters=backbone.state_dict().items
    )  # statistics are grouped, too
    try:
        stage_of = timm.models.group_parameters(tensors, backbone.group_matcher(coarse=True), reverse=True)
    except (AttributeError, NotImplementedError, AssertionError, TypeError):
        stage_of = {}
    stages = max(stage_of.values(), default=0)  # stage 0 is the stem
    if stages < 1:
        raise InputError(
            f"model.freeze is {wanted}, but timm defines no stages for '{name}': set it to none or all"
        )
    if int(wanted) > stages:
        raise InputError(
            f"model.freeze is {wanted}, but '{name}' has only {counted(stages, 'stage')} after its stem: "
            f"give at most {stages}, or all"
        )
    return frozenset(key for key, stage in stage_of.items() if stage <= int(wanted))


def _whole_modules(module: nn.Module, prefix: str, names: frozenset[str]) -> list[nn.Module]:
    """Return the largest modules all of whose tensors are named; one without tensors goes with those around."""
    own = [prefix + name for name in module.state_dict()]
    if own and names.issuperset(own):
        return [module]
    return [
        found
        for name, child in module.named_children()
        for found in _whole_modules(child, f"{prefix}{name}.", names)
    ]
