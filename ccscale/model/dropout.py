"""Dropout and stochastic depth with random numbers that depend on a view's position in the global batch.

torch draws them one after the other on each rank, so that a run would depend on the number of ranks. Here a random
number of a forward pass follows from what it is for, by the generator that the views are drawn with
(`philox.py`)::

    key     = (seed, step)
    counter = (its number within the view, over 4; which draw of the pass; position of the view; 2**31)

so it is the same on any number of ranks, in micro-batches of any size, and when the pass is made again; the
last word is one that no sample of the views' counters has. A position is that of the image in the global batch, and
views b come behind all views a. What is drawn once for all images, as in the positions of a transformer, has the
counter of position 0.

Which is which cannot be seen in a tensor: before a backbone is built, two passes without numbers tell it
(`model/trial.py`), by what grows with the batch.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ccscale.philox import philox_words

_NETWORK = 2**31
_WORD = 2**32
_FLOAT_BITS = 24  # as many as a float32 below 1 can have


class Undrawable(Exception):
    """Random numbers that have no position; the message says which."""


class Draws(TorchFunctionMode):
    """Draws the random numbers of forward passes while it is entered.

    Parameters
    ----------
    of_each
        For each draw of a pass, in their order: its numbers for each view; None where it is made once for all.
    """

    def __init__(self, of_each: Sequence[int | None]) -> None:
        super().__init__()
        self._of_each = tuple(of_each)
        # Numbers of which a view has one, as of stochastic depth, are drawn for all layers at once, into a table.
        singles = [draw for draw, each in enumerate(of_each) if each == 1]
        self._column = {draw: column for column, draw in enumerate(singles)}
        self._singles = torch.tensor(singles, dtype=torch.int64, device="cpu")
        self._seed, self._first, self._next = 0, 0, 0
        self._step = self._positions = self._table = torch.zeros(0, dtype=torch.int64, device="cpu")

    @property
    def placed(self) -> bool:
        """Whether there is something to draw, and it is known for which views."""
        return len(self._positions) > 0

    def place(self, seed: int, step: int, positions: Tensor) -> None:
        """Say what the next passes are, before they are made.

        Parameters
        ----------
        seed, step
            Of the run.
        positions
            (m,) int64, on the network's device: the position of each view in the global batch.
        """
        if not self._of_each:
            return
        self._seed, self._positions = seed, positions
        # Made on the device: a number that is copied to it would be waited for, one in the code compiled anew.
        self._step = torch.full((), step % _WORD, dtype=torch.int64, device=positions.device)
        self._singles = self._singles.to(positions.device)
        self._table = self._philox(0, self._singles, positions[:, None])[0]

    def from_here(self) -> Self:
        """Return what draws again, whenever it is entered, the numbers that follow now in this pass."""
        again = copy.copy(self)
        again._first = self._next
        return again

    def __enter__(self) -> Self:
        self._next = self._first
        return super().__enter__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        draw = _DRAWING.get(function)
        if draw is not None:
            return draw(self, *args, **(kwargs or {}))
        if function in _OTHERS:
            raise Undrawable(f"it draws random numbers by {function.__name__}")
        return function(*args, **(kwargs or {}))

    def words(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the next draw: random words of 32 bits, int64, of a shape whose first axis has the views."""
        draw, self._next = self._next, self._next + 1
        if draw >= len(self._of_each):
            raise RuntimeError("the backbone draws more random numbers than it did when it was tried")
        each = self._of_each[draw]
        if each == 1:
            return self._table[:, self._column[draw]].reshape(shape)
        rows = self._positions[:, None]
        if each is None:
            rows, each = torch.zeros((1, 1), dtype=torch.int64, device=device), math.prod(shape)
        blocks = torch.arange(-(-each // 4), device=device)
        words = torch.stack(self._philox(blocks, draw, rows), dim=-1)  # (m, blocks, 4)
        return words.flatten(1)[:, :each].reshape(shape)

    def _philox(self, blocks: Any, draws: Any, positions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return philox_words(blocks, draws, positions, _NETWORK, self._seed, self._step)

    def kept(self, x: Tensor, p: float, shape: Sequence[int] | None = None) -> Tensor:
        """Return by what dropout multiplies: 0 with probability `p`, else what makes up for that."""
        keep = self.words(x.shape if shape is None else shape, x.device) >= round(p * _WORD)
        return keep.to(x.dtype) * (1 / (1 - p) if p < 1 else 0)


def _dropout(axes: int | None = None) -> Callable[..., Tensor]:
    """Make torch's dropout of single numbers, or of what lies behind the first `axes` axes."""

    def drop(
        draws: Draws, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        shape = None if axes is None else (*input.shape[:axes], *[1] * (input.ndim - axes))
        kept = draws.kept(input, p, shape)
        return input.mul_(kept) if inplace else input * kept

    return drop


def _bernoulli(draws: Draws, input: Tensor, p: Any = 0.5, generator: Any = None) -> Tensor:
    if isinstance(p, Tensor):
        raise Undrawable("it draws random numbers of several probabilities at once")
    return input.copy_(draws.words(input.shape, input.device) < round(p * _WORD))


def _uniform(
    draws: Draws, input: Tensor, start: float = 0.0, stop: float = 1.0, generator: Any = None
) -> Tensor:
    words = draws.words(input.shape, input.device) >> (32 - _FLOAT_BITS)
    return input.copy_(words.to(input.dtype) * ((stop - start) / 2**_FLOAT_BITS) + start)


def _rand(draws: Draws, *size: Any, generator: Any = None, **options: Any) -> Tensor:
    return _uniform(draws, torch.empty(*size, **options))


def _rand_like(draws: Draws, input: Tensor, **options: Any) -> Tensor:
    return _uniform(draws, torch.empty_like(input, **options))


def _attention(
    draws: Draws,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **options: Any,
) -> Tensor:
    """Attention whose weights are dropped: they are worked out, which a fused kernel avoids."""
    if dropout_p == 0:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, is_causal=is_causal, scale=scale, **options
        )
    if is_causal or any(options.values()):
        raise Undrawable("it drops weights of a causal attention")
    weights = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        weights = (
            weights.masked_fill(~attn_mask, -math.inf)
            if attn_mask.dtype == torch.bool
            else weights + attn_mask
        )
    weights = weights.softmax(dim=-1)
    return weights * draws.kept(weights, dropout_p) @ value


_DRAWING: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.dropout: _dropout(),
    torch.dropout: _dropout(),
    F.dropout1d: _dropout(2),
    F.dropout2d: _dropout(2),
    F.dropout3d: _dropout(2),
    torch.Tensor.bernoulli_: _bernoulli,
    torch.Tensor.uniform_: _uniform,
    torch.rand: _rand,
    torch.rand_like: _rand_like,
    F.scaled_dot_product_attention: _attention,
}

_OTHERS: frozenset[Callable[..., Any]] = frozenset(
    getattr(owner, name)
    for owner, names in (
        (torch, "bernoulli multinomial normal poisson randint randint_like randn randn_like randperm"),
        (torch.Tensor, "cauchy_ exponential_ geometric_ log_normal_ normal_ random_"),
        (F, "alpha_dropout feature_alpha_dropout fractional_max_pool2d gumbel_softmax"),
        (F, "multi_head_attention_forward"),
    )
    for name in names.split()
)
