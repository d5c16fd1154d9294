"""Communication between ranks: the few collectives that ccscale needs, and agreement on errors.

Tensors on the CPU travel by gloo, tensors on a GPU by NCCL.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import progress
from ccscale.errors import CcscaleError, Crash, Fault, InputError

T = TypeVar("T")

INTEGER = torch.int64  # as which `sum_integers` sends its numbers


def rank(group: ProcessGroup | None = None) -> int:
    """Return this process's rank in `group`; 0 where there is no process group."""
    return torch_dist.get_rank(group) if torch_dist.is_initialized() else 0


def world(group: ProcessGroup | None = None) -> int:
    """Return the number of ranks in `group`; 1 where there is no process group."""
    return torch_dist.get_world_size(group) if torch_dist.is_initialized() else 1


def gather_rows(local: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Gather equal tensors of all ranks: (n, ...) -> (W, n, ...), without gradient."""
    return start_gather_rows(local, group).wait()


class Coming:
    """A tensor that is on its way; `wait` returns it."""

    def __init__(self, tensor: Tensor, works: Sequence[Any]) -> None:
        self._tensor, self._works = tensor, works

    def wait(self) -> Tensor:
        """Return the tensor, when it is there (a GPU's stream waits, the host does not)."""
        for work in self._works:
            work.wait()
        return self._tensor


def start_gather_rows(local: Tensor, group: ProcessGroup | None = None) -> Coming:
    """Begin to gather equal tensors of all ranks: (n, ...) -> (W, n, ...), without gradient."""
    size = world(group)
    if size == 1:
        return Coming(local.unsqueeze(0), [])
    out = local.new_empty((size * len(local), *local.shape[1:]))
    gather = (
        getattr(torch_dist, "all_gather_single", None) or torch_dist.all_gather_into_tensor
    )  # its old name
    work = gather(out, local.contiguous(), group=group, async_op=True)
    return Coming(out.view(size, *local.shape), [work])


def pass_round(local: Tensor, group: ProcessGroup | None = None) -> Iterator[Tensor]:
    """Yield the equal tensors of the other ranks, that of the rank before first, without gradient.

    Each is passed on to the next rank while the caller works on it: a rank holds two beside its own.
    """
    size, own = world(group), rank(group)

    def start(tensor: Tensor) -> Coming:
        received = torch.empty_like(tensor)
        to, source = (
            (own + 1) % size if group is None else torch_dist.get_global_rank(group, (own + 1) % size),
            (own - 1) % size if group is None else torch_dist.get_global_rank(group, (own - 1) % size),
        )
        operations = [
            torch_dist.P2POp(torch_dist.isend, tensor, to, group),
            torch_dist.P2POp(torch_dist.irecv, received, source, group),
        ]
        return Coming(received, torch_dist.batch_isend_irecv(operations))

    coming = start(local.contiguous()) if size > 1 else None
    for left in range(size - 2, -1, -1):
        assert coming is not None
        received = coming.wait()
        if left:
            coming = start(received)
        yield received


def start_sum(tensor: Tensor, group: ProcessGroup | None = None) -> Coming:
    """Begin to add `tensor` up over the ranks, in place, without gradient."""
    works = [torch_dist.all_reduce(tensor, group=group, async_op=True)] if world(group) > 1 else []
    return Coming(tensor, works)


def sum_(tensor: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Add `tensor` up over the ranks, in place, without gradient."""
    if world(group) > 1:
        torch_dist.all_reduce(tensor, group=group)
    return tensor


def sum_integers(values: Sequence[int]) -> list[int]:
    """Add integers up over the ranks. They travel on the CPU: a GPU is not waited for."""
    if world() == 1:
        return list(values)
    total = torch.tensor(values, dtype=INTEGER)
    torch_dist.all_reduce(total)
    return [int(value) for value in total]


def check_alike(what: str, values: Sequence[int], group: ProcessGroup | None = None) -> None:
    """Check that all ranks have the same integers, as the sizes of what they are about to exchange.

    One small collective call; its own size is the same on every rank. It travels on the CPU where the group can.

    Raises
    ------
    ValueError
        On all ranks, naming those that differ.
    """
    if world(group) == 1:
        return
    device = "cpu" if "gloo" in torch_dist.get_backend_config(group) else "cuda"
    of_ranks = gather_rows(torch.tensor(values, dtype=torch.int64, device=device), group).tolist()
    if any(other != of_ranks[0] for other in of_ranks):
        told = ", ".join(f"{tuple(other)} on rank {number}" for number, other in enumerate(of_ranks))
        raise ValueError(f"{what} must be the same on all ranks: {told}")


def say(text: str) -> None:
    """Print a line on rank 0, above a progress bar that may be there."""
    if rank() == 0:
        progress.say(text)


def gather_objects(value: Any) -> list[Any] | None:
    """Return the values of all ranks on rank 0, None elsewhere."""
    if world() == 1:
        return [value]
    boxes: list[Any] | None = [None] * world() if rank() == 0 else None
    torch_dist.gather_object(value, boxes, dst=0)
    return boxes


def on_rank_zero(call: Callable[[], T]) -> T:
    """Call on rank 0 and return what it returns on every rank; what it raises is raised, and told by rank 0."""
    if world() == 1:
        return call()
    box: list[Any] = [None, None]
    cause: Exception | None = None
    if rank() == 0:
        try:
            box[0] = call()
        except CcscaleError as error:
            box[1] = error
        except Exception as error:
            cause, box[1] = error, Crash(f"{type(error).__name__}: {error}")
    torch_dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    value, failure = box
    if cause is not None:
        raise failure.told_by(0) from cause
    if failure is not None:
        raise failure.told_by(0)
    return value


def together(call: Callable[[], T]) -> T:
    """Call on every rank; where one fails, all raise, so that none is left waiting for it.

    The first rank that failed tells it; those that did not raise an error of the same kind.
    """
    if world() == 1:
        return call()
    failure: CcscaleError | None = None
    cause: Exception | None = None
    try:
        value = call()
    except CcscaleError as error:
        failure = error
    except Exception as error:
        cause, failure = error, Crash(f"{type(error).__name__}: {error}")
    kind = next((kind for kind in (InputError, Fault, Crash) if isinstance(failure, kind)), None)
    reasons = all_objects(None if kind is None else (kind, str(failure)))
    failed = [(number, *reason) for number, reason in enumerate(reasons) if reason is not None]
    if not failed:
        return value
    first, kind, reason = failed[0]
    if failure is None:
        failure = kind(f"rank {first} failed: {reason}")
    if cause is not None:
        raise failure.told_by(first) from cause
    raise failure.told_by(first)


def is_of_all_ranks(error: BaseException) -> bool:
    """Return whether all ranks raise an exception together, of which one will speak; else it is this rank's own."""
    return isinstance(error, CcscaleError) and error.teller is not None


def all_objects(value: T) -> list[T]:
    """Return the values of all ranks on every rank, in their order."""
    if world() == 1:
        return [value]
    boxes: list[Any] = [None] * world()
    torch_dist.all_gather_object(boxes, value)
    return boxes
