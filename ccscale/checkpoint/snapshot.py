"""A copy of all that DeepSpeed saves, in host memory: what training waits for.

DeepSpeed decides what is saved, under which names, and in what form; its own checkpoint engine is replaced for the
length of the call by one that keeps what it is given. A state is any graph of Python objects: it is pickled at
once, which is small, but for the tensors, which are copied::

    state --pickle--> skeleton (bytes), with numbers in the place of tensors
    tensors --------> copies on the CPU (pinned for a GPU, so that they come at the bus's speed), each once

What training changes afterwards changes neither.
"""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ccscale.checkpoint.marker import TAG


@dataclass(frozen=True)
class State:
    """The copy of one file's content."""

    skeleton: bytes
    tensors: list[Tensor]

    @classmethod
    def of(cls, value: Any) -> "State":
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


Snapshot = dict[str, State]
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


class _Collector:
    """Stands in for DeepSpeed's checkpoint engine, and writes nothing."""

    def __init__(self) -> None:
        self.states: Snapshot = {}

    def save(self, state_dict: Any, path: str) -> None:
        self.states[os.path.normpath(path)] = State.of(state_dict)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass

    def create(self, info: Any) -> None:
        pass

    def commit(self, info: Any) -> bool:
        return True

    def is_decoupled(self) -> bool:
        return False

    def preserves_storage_sharing(self) -> bool:
        return False  # copies share nothing, so DeepSpeed need not make its own


def take_snapshot(engine: Any, state: dict[str, Any]) -> Snapshot:
    """Copy what DeepSpeed saves on this rank; all ranks call it together.

    Parameters
    ----------
    engine
        The DeepSpeed engine.
    state
        What a resume needs beside weights and optimizer.
    """
    # DeepSpeed lets the client's keys overwrite its own: ours are one. The other key is its converter's wish.
    client = {"ccscale": state, "universal_checkpoint_info": {}}
    with _collecting(engine) as collector:
        engine.save_checkpoint(".", tag=TAG, client_state=client, save_latest=False)
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()  # the next step must not overtake the copies
    return collector.states


@contextmanager
def _collecting(engine: Any) -> Iterator[_Collector]:
    collector, own = _Collector(), engine.checkpoint_engine
    engine.checkpoint_engine = collector
    engine._copy_recovery_script = lambda path: None  # with ZeRO it lays a script of its own beside, at once
    try:
        yield collector
    finally:
        engine.checkpoint_engine = own
        del engine._copy_recovery_script
