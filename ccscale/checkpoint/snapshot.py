"""A snapshot in host memory of everything that DeepSpeed saves; training waits only for this copy.

DeepSpeed decides what is saved, under which names and in what form (`Engine.hand_over`). A state is any graph of
Python objects: it is pickled at once, which is small without the tensors, and these are copied::

    state --pickle--> skeleton (bytes), with numbers in the place of tensors
    tensors --------> copies on the CPU (pinned for a GPU, so that they come at the bus's speed), each once

Training does not affect them afterwards.
"""

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ccscale.checkpoint.layout import TAG
from ccscale.engine.adapter import Engine


@dataclass(frozen=True)
class StateCopy:
    """The copy of one file's content."""

    skeleton: bytes
    tensors: list[Tensor]

    @classmethod
    def of(cls, value: Any) -> "StateCopy":
        """Copy a state; copies from a GPU may be on their way still: see `take_snapshot`."""
        copier, file = _Copier(), io.BytesIO()
        pickler = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = copier.number  # type: ignore[method-assign]
        pickler.dump(value)
        return cls(file.getvalue(), copier.copies)

    def restore(self) -> Any:
        """Return the state again, with the copies as its tensors."""
        unpickler = pickle.Unpickler(io.BytesIO(self.skeleton))
        unpickler.persistent_load = self.tensors.__getitem__  # type: ignore[method-assign]
        return unpickler.load()


Snapshot = dict[str, StateCopy]
"""What each file of this rank will hold, by its path in the checkpoint's folder."""


class _Copier:
    """Copies tensors, each once, and numbers the copies."""

    def __init__(self) -> None:
        self.copies: list[Tensor] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int | None:
        if not isinstance(value, Tensor):
            return None
        place = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if place not in self._numbers:
            self._numbers[place] = len(self.copies)
            self.copies.append(_copy(value))
        return self._numbers[place]


def _copy(value: Tensor) -> Tensor:
    value = value.detach()
    copy = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
    return copy.copy_(value, non_blocking=True)


def take_snapshot(engine: Engine, state: dict[str, Any]) -> Snapshot:
    """Copy the state that this rank saves; all ranks call it together."""
    snapshot: Snapshot = {}

    def keep(path: str, content: Any) -> None:
        snapshot[path] = StateCopy.of(content)

    engine.hand_over(state, TAG, keep)
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()  # the next step must not overtake the copies
    return snapshot
