"""Checkpoints of TURTLE: a search that was killed resumes from the file, bit for bit."""

import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ccscale import atomic

SECONDS = 30.0  # from one keeping to the next


@dataclass
class TurtleState:
    """All that a step changes.

    Attributes
    ----------
    maps
        The labels' linear maps, one a space.
    optimizer
        What steps them.
    draw
        Draws batches and the inner maps.
    losses
        Of the last steps.
    step
        How many steps are done.
    """

    maps: nn.ModuleList
    optimizer: torch.optim.Optimizer
    draw: torch.Generator
    losses: list[Tensor] = field(default_factory=list)
    step: int = 0


@dataclass
class Keeper:
    """Keeps states in a file.

    Attributes
    ----------
    path
        The file.
    search
        A hash of all that the search depends on: what another one has left is not continued.
    """

    path: Path
    search: str
    _last: float = field(default_factory=time.monotonic)

    def restore(self, state: TurtleState) -> None:
        """Continue from the stored state of this search, if there is one."""
        device = next(state.maps.parameters()).device
        try:
            found: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return
        if found.get("search") != self.search:
            return
        state.maps.load_state_dict(found["maps"])
        state.optimizer.load_state_dict(found["optimizer"])
        state.draw.set_state(found["draw"].cpu())
        state.losses, state.step = found["losses"], found["step"]

    def keep(self, state: TurtleState, is_last: bool) -> None:
        """Write a state atomically, if that is due."""
        if not is_last and time.monotonic() - self._last < SECONDS:
            return
        content = {"search": self.search, "step": state.step, "losses": state.losses}
        content |= {"maps": state.maps.state_dict(), "optimizer": state.optimizer.state_dict()}
        with atomic.replacing(self.path) as file:
            torch.save(content | {"draw": state.draw.get_state()}, file)
        self._last = time.monotonic()
