"""Tries a backbone before it is built: forward passes on torch's meta device, with shapes only.

So one that does not fit is refused at once, with what it gives, and not by a traceback of the first step. Passes of
two batches tell of each random number that it draws whether it is an image's own or one for all.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccscale.config import Model
from ccscale.errors import InputError, first_line
from ccscale.model.backbone import create_backbone, other_backbone
from ccscale.model.dropout import Draws, Undrawable
from ccscale.model.frozen import freeze
from ccscale.model.norm import use_global_batch_norm
from ccscale.model.recompute import checkpointing, not_checkpointed, use_grad_checkpointing

FEW, MORE = 3, 5  # views of the two passes
SAME_SHAPE = (F.batch_norm, F.group_norm, F.instance_norm, F.layer_norm)
"""What gives the shape that it is given; on the meta device torch takes these apart in Python, most of a pass."""


class Trial(NamedTuple):
    """What a backbone does."""

    width: int
    """D, the width of its features."""
    draws: tuple[int | None, ...]
    """The random numbers of a pass while it is trained; see `Draws`."""


@lru_cache(maxsize=16)
def try_backbone(settings: Model, size: int) -> Trial:
    """Try a config's backbone.

    Parameters
    ----------
    settings
        The config's section ``model``.
    size
        Side of the images in pixels.

    Raises
    ------
    InputError
        If it cannot be built, does not make (m, D) of (m, C, size, size), or draws random numbers that cannot be
        drawn by the place in the batch.
    """
    with torch.device("meta"):
        backbone = create_backbone(settings, size, pretrained=False)
        nothing, few, more = _Heard(), _Heard(), _Heard()
        shapes = {_pass(backbone.eval(), FEW, size, settings, nothing)}
        backbone.train()
        freeze(backbone, settings)
        if settings.grad_checkpointing:
            use_grad_checkpointing(backbone, settings.backbone)
        with checkpointing(backbone, None) as blocks:
            shapes.add(_pass(backbone, FEW, size, settings, few))
        _pass(backbone, MORE, size, settings, more)
        use_global_batch_norm(backbone)
    if settings.grad_checkpointing and not blocks:
        raise not_checkpointed(settings.backbone)
    (shape, *others) = shapes
    if others or len(shape) != 2 or shape[0] != FEW:
        gives = " or ".join(f"({', '.join(['m', *map(str, shape[1:])])})" for shape in sorted(shapes))
        raise InputError(
            f"the backbone '{settings.backbone}' gives {gives} for (m, {settings.in_chans}, {size}, "
            f"{size}), but features (m, D) are needed: choose another one (model.backbone)"
        )
    draws = _tell_apart(few.shapes, more.shapes, settings)
    for key, value, has in (
        ("drop_path", settings.drop_path, 1 in draws),
        ("dropout", settings.dropout, any(each != 1 for each in draws)),
    ):
        if value and not has:
            frozen = " where it is not frozen (model.freeze)" if settings.freeze != "none" else ""
            raise InputError(
                f"model.{key} is {value:g}, but '{settings.backbone}' does not use it{frozen}: leave it out"
            )
    return Trial(shape[1], draws)


class _Heard(Draws):
    """Notes the shapes of what is drawn."""

    def __init__(self) -> None:
        super().__init__(())
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in SAME_SHAPE:
            return torch.empty_like(args[0])
        return super().__torch_function__(function, types, args, kwargs)

    def words(self, shape: Sequence[int], device: torch.device) -> Tensor:
        self.shapes.append(tuple(shape))
        return torch.zeros(shape, dtype=torch.int64, device=device)


def _pass(backbone: nn.Module, views: int, size: int, settings: Model, heard: _Heard) -> tuple[int, ...]:
    """Make a forward pass, and return the shape of what comes out."""
    name = settings.backbone
    try:
        with heard:
            features = backbone(torch.empty(views, settings.in_chans, size, size))
    except Undrawable as error:
        raise _undrawable(settings, str(error)) from None
    except Exception as error:
        raise InputError(
            f"the backbone '{name}' does not accept images of {size} pixels ({first_line(error)}): "
            + other_backbone(name, size)
        ) from None
    if not isinstance(features, Tensor):
        raise InputError(
            f"the backbone '{name}' gives a {type(features).__name__}, but features (m, D) are needed: "
            "choose another one (model.backbone)"
        )
    return tuple(features.shape)


def _tell_apart(
    few: Sequence[tuple[int, ...]], more: Sequence[tuple[int, ...]], settings: Model
) -> tuple[int | None, ...]:
    """Return of each draw its numbers for a view, or None where it does not grow with the batch."""
    if len(few) != len(more):
        raise _undrawable(settings, "it draws random numbers more often for more images")
    draws: list[int | None] = []
    for small, large in zip(few, more, strict=True):
        if small == large:
            draws.append(None)
        elif small[0] * MORE == large[0] * FEW and small[1:] == large[1:]:
            draws.append(math.prod(small) // FEW)
        else:
            raise _undrawable(settings, "it draws random numbers across images")
    return tuple(draws)


def _undrawable(settings: Model, why: str) -> InputError:
    return InputError(
        f"the results of the backbone '{settings.backbone}' would depend on the number of ranks, since {why}: set "
        "model.drop_path=0 and model.dropout=0, or choose another one (model.backbone)"
    )
