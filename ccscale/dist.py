"""The process group from the environment, and the few collectives that ccscale needs.

Tensors on the CPU travel by gloo, tensors on a GPU by NCCL.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.distributed import ProcessGroup

from ccscale import progress
from ccscale.errors import CcscaleError, Crash, Fault, InputError
from ccscale.rank_environment import RankEnvironment
from ccscale.threads import background

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
INTEGER = torch.int64  # as which `sum_integers` sends its numbers


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """Return the device of this rank for the config's ``train.device`` (auto, cpu or cuda).

    Raises
    ------
    InputError
        If CUDA is wanted and there is none, or there are fewer GPUs than ranks on this machine.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("train.device is cuda and there is no CUDA device here; use train.device=cpu")
    count = torch.cuda.device_count()
    if count == 1:  # Slurm and submitit may show each task its own GPU alone
        local_rank = 0
    if local_rank >= count:
        raise InputError(
            f"local rank {local_rank} has no GPU: this machine shows {count}; start fewer processes"
        )
    return torch.device("cuda", local_rank)


@contextmanager
def process_group(
    env: RankEnvironment, device: torch.device, meeting: AbstractContextManager[Any] | None = None
) -> Iterator[torch_dist.Store | None]:
    """Join the process group of all ranks for the length of the context (one rank forms its own).

    Yields the store where the ranks met; None for one rank alone, or in a process group that was there before.
    After an exception that is one rank's own of several the group is left as it is, and the process is to end: the
    others may still be in a call that this rank does not make, and to take leave of them would wait for them.

    Parameters
    ----------
    env, device
        Of this rank.
    meeting
        A context for the time in which the other ranks are waited for; what a signal's handler raises ends it.

    Raises
    ------
    Fault
        If not all ranks come within `TIMEOUT`.
    """
    if torch_dist.is_initialized():
        yield None
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # DeepSpeed picks its accelerator by the first when it is imported, and the device by the second.
    names = {"LOCAL_RANK": str(env.local_rank if device.index is None else device.index)}
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        names["DS_ACCELERATOR"] = "cpu"
    with _environment(names):
        yield from _joined(env, device, backend, meeting)


@contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the length of the context: what comes after in this process is none of them."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _joined(
    env: RankEnvironment, device: torch.device, backend: str, meeting: AbstractContextManager[Any] | None
) -> Iterator[torch_dist.Store | None]:
    """Join, yield the store, and take leave; see `process_group`."""
    if env.world == 1:
        met = None
        torch_dist.init_process_group(backend, store=torch_dist.HashStore(), rank=0, world_size=1)
    else:
        with meeting or nullcontext():
            met = _meet(env, device, backend)
    try:
        yield met
    except BaseException as error:
        if env.world == 1 or is_of_all_ranks(error):
            torch_dist.destroy_process_group()
        raise
    torch_dist.destroy_process_group()


def _meet(env: RankEnvironment, device: torch.device, backend: str) -> torch_dist.Store:
    """Form the process group with the other ranks, and return the store of the meeting place."""
    _name_master()

    def join() -> torch_dist.Store:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # it is each thread's own
        met, *_ = next(torch_dist.rendezvous("env://", env.rank, env.world, timeout=TIMEOUT))
        ranks = torch_dist.PrefixStore("ranks", met)
        torch_dist.init_process_group(
            backend, store=ranks, rank=env.rank, world_size=env.world, timeout=TIMEOUT
        )
        return met

    try:
        # The main thread waits in Python, where signals are handled: torch would not look at them for half an hour.
        return background(join).result()
    except RuntimeError as error:  # torch's DistError is one, and gloo raises it as it is
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        why = str(error).partition("\n")[0].rstrip(".")
        raise Fault(
            f"the {env.world} ranks did not meet at {where} ({why}): see what those that are missing have said; "
            "MASTER_ADDR and MASTER_PORT must be the same on all ranks, the port free on the first one's machine "
            "and in the others' reach"
        ) from error


def _name_master() -> None:
    """Under Slurm, take the step's first node and a port that follows from the job for the meeting place."""
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
        if not nodes:
            raise InputError("MASTER_ADDR is not set; start with torchrun, deepspeed or srun")
        names = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], check=True, capture_output=True, text=True
        ).stdout.split()
        os.environ["MASTER_ADDR"] = names[0]
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000)


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
    if failure is not None:
        raise failure.told_by(0) from cause
    return value


def together(call: Callable[[], T]) -> T:
    """Call on every rank; where one fails, all raise, so that none is left waiting for it.

    The first rank that failed tells it.
    """
    if world() == 1:
        return call()
    failure: Exception | None = None
    try:
        value = call()
    except Exception as error:
        failure = error
    reasons = all_objects(None if failure is None else (str(failure), isinstance(failure, Fault)))
    failed = [(number, *reason) for number, reason in enumerate(reasons) if reason is not None]
    if not failed:
        return value
    first, reason, is_fault = failed[0]
    if failure is None:
        failure = (Fault if is_fault else InputError)(f"rank {first} failed: {reason}")
    if not isinstance(failure, CcscaleError):
        raise Crash(f"{type(failure).__name__}: {failure}").told_by(first) from failure
    raise failure.told_by(first)


def is_of_all_ranks(error: BaseException) -> bool:
    """Tell whether all ranks raise an exception together, of which one will speak; else it is this rank's own."""
    return isinstance(error, CcscaleError) and error.teller is not None


def all_objects(value: T) -> list[T]:
    """Return the values of all ranks on every rank, in their order."""
    if world() == 1:
        return [value]
    boxes: list[Any] = [None] * world()
    torch_dist.all_gather_object(boxes, value)
    return boxes
