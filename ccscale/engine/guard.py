"""Skips steps whose loss or gradient is not finite, on the device and without synchronizing the host.

Fused Adam takes a number ``found_inf`` on the device and leaves parameters and moments unchanged if it is 1. It
is set right before the optimizer step, from the gradients about to be used, which are NaN or infinite if an
embedding, an assignment or a loss is. The running statistics of batch norm, which the forward pass has already
updated, are restored. Whether a step was skipped is read when the log is flushed.

The gradient norm used for this is also the one for clipping, since DeepSpeed's own clipping synchronizes. With g
the whole gradient::

    g <- g min(1, clip / (|g| + 1e-6))
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccscale import dist
from ccscale.engine.adapter import Engine
from ccscale.errors import Fault
from ccscale.model.average import Average
from ccscale.model.heads import CentreHeads

NORM_BYTES = 2 * torch.float64.itemsize
"""What a rank sends for the norm of the gradient under ZeRO 1 and 2, and whether it is finite."""
SMALL = 1e-6
"""What torch, and DeepSpeed, add to a norm that is divided by."""


class NotFinite(Fault):
    """Too many steps in a row whose loss or gradient is infinite or not a number."""


class Verdict(NamedTuple):
    """The checks of a step: scalars on the device, above 0 for yes."""

    skipped: Tensor
    """Whether the step was skipped; the same on all ranks."""
    embeddings: Tensor
    """Whether one of this rank's own embeddings is not finite."""
    assignments: Tensor
    """Whether one of this rank's own soft assignments is not finite."""


class StepGuard:
    """Skips steps of an engine.

    Parameters
    ----------
    engine
        From `build_engine`: its optimizer is fused Adam, alone or under ZeRO.
    device
        Where it trains.
    clip
        The largest norm of the gradient; None: any.
    """

    def __init__(self, engine: Engine, device: torch.device, clip: float | None = None) -> None:
        self._engine, self._clip = engine, clip
        frozen = engine.network.frozen_names
        # An average is no matter of the forward pass: it is told itself of a step that was skipped. Centres are
        # found between steps.
        others = [module for module in engine.network.modules() if isinstance(module, Average | CentreHeads)]
        still = {buffer for other in others for buffer in other.buffers()}
        still |= {buffer for name, buffer in engine.network.named_buffers() if name in frozen}
        changing = [buffer for buffer in engine.network.buffers() if buffer not in still]
        self._buffers = [buffer for buffer in changing if buffer.is_floating_point()]
        self._nothing = torch.zeros((), device=device)
        engine.optimizer.register_step_pre_hook(self._judge)
        self._before: Tensor | None = None
        self._judged = False
        self._skipped = self._nothing

    def begin(self) -> None:
        """Save the state that the forward pass will change."""
        self._skipped, self._judged = self._nothing, False
        if self._buffers:
            self._before = torch.cat([buffer.flatten() for buffer in self._buffers])

    def end(self, z: Tensor, heads: Sequence[Tensor]) -> Verdict:
        """After the optimizer step, restore the state that a skipped step has changed.

        Parameters
        ----------
        z, heads
            The embeddings, and the soft assignments of each cluster head, from which the losses were computed.
        """
        if self._before is not None:
            after = torch.cat([buffer.flatten() for buffer in self._buffers])
            kept = torch.where(self._skipped > 0, self._before, after)
            sizes = [buffer.numel() for buffer in self._buffers]
            parts = [
                part.view_as(buffer) for buffer, part in zip(self._buffers, kept.split(sizes), strict=True)
            ]
            torch._foreach_copy_(self._buffers, parts)
        sums = z.detach().sum(), reduce(torch.add, [p.detach().sum() for p in heads])
        return Verdict(self._skipped, *map(_not_finite, sums))

    def _judge(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Check all gradients before the first parameter group is stepped: all groups are stepped, or none."""
        if self._judged:
            return  # ZeRO steps group by group
        self._judged = True
        gradients = self._engine.gradients()
        # The 2-norm: it is computed at the memory's speed (the largest size takes longer than Adam on a CPU).
        norm = torch.nn.utils.get_total_norm(gradients).to(self._nothing.device)
        bad = _not_finite(norm)
        if self._engine.zero > 0:  # a rank has a part of the gradients
            found = dist.sum_(torch.stack([bad.double(), norm.double().square()]))
            bad, norm = found[0].clamp_max(1).float(), found[1].sqrt()
        if self._clip is not None and gradients:
            factor = (self._clip / (norm.double() + SMALL)).clamp_max(1)
            torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
        self._skipped = optimizer.found_inf = bad  # type: ignore[attr-defined]


class SkippedSteps:
    """Counts and reports skipped steps, and ends a run with too many in a row.

    Parameters
    ----------
    limit
        Maximum number of steps skipped in a row; one more ends the run.
    say
        Prints a sentence, once for all ranks.
    remedy
        Returns a remedy for the user when there were too many.
    """

    def __init__(
        self, limit: int, say: Callable[[str], None], remedy: Callable[[], str] = lambda: "lower train.lr"
    ) -> None:
        self._limit, self._say, self._remedy = limit, say, remedy
        self._pending: list[tuple[dict[str, Any], Verdict]] = []
        self._in_a_row = 0

    def note(self, record: dict[str, Any], verdict: Verdict) -> None:
        """Record a step and its log line, which has ``skipped``; nothing is read from the device."""
        self._pending.append((record, verdict))

    def judge(self) -> None:
        """Check the steps since the last call; all ranks call it at the same step.

        Raises
        ------
        NotFinite
            On all ranks, after too many in a row.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        skipped = [bool(record["skipped"] > 0) for record, _ in pending]  # read with the log, all at once
        if not any(skipped):
            self._in_a_row = 0
            return
        # Only now do the ranks exchange who it was: all know that one of the steps was skipped.
        places = dist.all_objects(
            [(bool(verdict.embeddings > 0), bool(verdict.assignments > 0)) for _, verdict in pending]
        )
        for number, ((record, _), is_skipped) in enumerate(zip(pending, skipped, strict=True)):
            self._in_a_row = self._in_a_row + 1 if is_skipped else 0
            if not is_skipped:
                continue
            what = _describe(record, [of[number] for of in places])
            if self._in_a_row > self._limit:
                raise NotFinite(
                    f"{what}, and {self._limit} steps before it were skipped for the like "
                    f"(train.max_bad_steps); {self._remedy()}"
                ).told_by(0)  # all see the same
            self._say(f"skipped a step: {what}")


def _describe(record: dict[str, Any], of_ranks: list[tuple[bool, bool]]) -> str:
    """Return which loss of which step is not finite, and on which ranks it began."""
    losses = [
        f"the {name.partition('_')[0]} loss of step {record['step']} is {float(record[name])}"
        for name in ("instance_loss", "cluster_loss")
        if record.get(name) is not None and not math.isfinite(float(record[name]))
    ]
    what = " and ".join(losses) or f"a gradient of step {record['step']} is not finite"
    for number, name in enumerate(("embeddings", "assignments")):
        ranks = [str(rank) for rank, found in enumerate(of_ranks) if found[number]]
        if ranks:
            what += f"; {name} that are not finite come from rank {', '.join(ranks)}"
    return what


def _not_finite(value: Tensor) -> Tensor:
    return (value - value).ne(0).float()  # what is not finite leaves NaN: half of the launches of `isfinite`
