"""Gradient checkpointing: the activations of a block are dropped, and recomputed in the backward pass.

Which blocks is timm's affair (``set_grad_checkpointing``), and it knows nothing of two things that a second pass of
a block must not do here: draw other random numbers than the first (`dropout.py` draws by their number in the pass),
and move running statistics again. PyTorch asks for the contexts of both passes where a block is checkpointed
(``context_fn`` of `torch.utils.checkpoint.checkpoint`), and timm does not hand that on: so that function is another
one for the length of a pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch.utils.checkpoint
from torch import nn

from ccscale.errors import InputError
from ccscale.model.dropout import Draws
from ccscale.model.norm import keep_running_statistics


def use_grad_checkpointing(backbone: nn.Module, name: str) -> None:
    """Have a timm model checkpoint its blocks while it is trained.

    Raises
    ------
    InputError
        If it has no blocks that timm checkpoints.
    """
    try:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError):
        raise not_checkpointed(name) from None


def not_checkpointed(name: str) -> InputError:
    """Return what a backbone without blocks to checkpoint is refused with."""
    return InputError(
        f"timm does not support gradient checkpointing for '{name}': leave model.grad_checkpointing out"
    )


@contextmanager
def checkpointing(backbone: nn.Module, draws: Draws | None) -> Iterator[list[None]]:
    """Have blocks that are checkpointed in the context draw the same and leave statistics alone when made again.

    Parameters
    ----------
    backbone
        Whose pass it is.
    draws
        Entered while it is made; None where nothing is drawn.

    Yields
    ------
    list of None
        As long as the number of checkpointed blocks so far.
    """
    original: Any = torch.utils.checkpoint.checkpoint
    blocks: list[None] = []

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), _again(backbone, None if draws is None else draws.from_here())

    def checkpoint(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        blocks.append(None)
        options |= {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
        return original(function, *arguments, **options)

    torch.utils.checkpoint.checkpoint = checkpoint  # type: ignore[assignment]
    try:
        yield blocks
    finally:
        torch.utils.checkpoint.checkpoint = original


@contextmanager
def _again(backbone: nn.Module, draws: Draws | None) -> Iterator[None]:
    """Make a block's second pass, on whichever thread the gradients come."""
    with keep_running_statistics(backbone), draws or nullcontext():
        yield
