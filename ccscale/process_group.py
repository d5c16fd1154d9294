"""Rendezvous of the ranks: forms a process group from the environment of torchrun, deepspeed or srun."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as torch_dist

from ccscale import dist
from ccscale.attendance import Attendance
from ccscale.errors import Fault, InputError
from ccscale.heap import keep_freed
from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment
from ccscale.threads import background

TIMEOUT = timedelta(minutes=30)
LOOK_SECONDS = 0.5
LATE_SECONDS = 10.0
"""Ranks that have not met by then are told of."""


@contextmanager
def process_group(
    env: RankEnvironment, device: torch.device, meeting: AbstractContextManager[Any] | None = None
) -> Iterator[torch_dist.Store | None]:
    """Join the process group of all ranks for the length of the context (one rank forms its own).

    Yields the store where the ranks met; None for one rank alone, or in a process group that was there before.
    On a CPU the memory that is freed is kept meanwhile (see `heap`). After an exception that is one rank's own of
    several the group is left as it is, and the process is to end: the others may still be in a call that this rank
    does not make, and to take leave of them would wait for them. So it is on GPUs after any exception: NCCL would
    wait for what was begun on this one's stream and not on the others'.

    Parameters
    ----------
    env, device
        Of this rank.
    meeting
        A context for the time in which the other ranks are waited for; what a signal's handler raises ends it.

    Raises
    ------
    Fault
        If not all ranks come within `TIMEOUT`, or one is known to have ended before they met.
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
    with _environment(names), keep_freed(device.type == "cpu"):
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
        if env.world == 1 or (dist.is_of_all_ranks(error) and device.type == "cpu"):
            torch_dist.destroy_process_group()
        raise
    torch_dist.destroy_process_group()


def _meet(env: RankEnvironment, device: torch.device, backend: str) -> torch_dist.Store:
    """Form the process group with the other ranks, and return the store of the meeting place."""
    _name_master()
    attendance = Attendance(env, TIMEOUT)

    def join() -> torch_dist.Store:
        met, *_ = next(torch_dist.rendezvous("env://", env.rank, env.world, timeout=TIMEOUT))
        ranks = torch_dist.PrefixStore("ranks", met)
        torch_dist.init_process_group(
            backend,
            store=ranks,
            rank=env.rank,
            world_size=env.world,
            timeout=TIMEOUT,
            # NCCL connects the GPUs here and now, and what it cannot do is told here.
            device_id=device if device.type == "cuda" else None,
        )
        return met

    try:
        # The main thread waits in Python, where signals are handled: torch would not look at them for half an hour.
        return _wait(background(join), attendance, env)
    except RuntimeError as error:  # torch's DistError is one, and gloo raises it as it is
        if "NCCL" in str(error):
            why = str(error).rstrip().rpartition("\n")[2].rstrip(".")
            raise Fault(
                f"NCCL did not connect the GPUs of the {env.world} ranks ({why}): each rank needs its own "
                "GPU, and NCCL must find the network between the machines (NCCL_SOCKET_IFNAME); "
                "NCCL_DEBUG=INFO shows more"
            ) from error
        why = str(error).partition("\n")[0].rstrip(".")
        raise Fault(
            f"the {env.world} ranks did not meet at {_place()} ({why}): check the output of the missing "
            "ranks. MASTER_ADDR and MASTER_PORT must be the same on all ranks, and the port free on the "
            "first machine and reachable from the others"
        ) from error


def _wait(met: "Future[torch_dist.Store]", attendance: Attendance, env: RankEnvironment) -> torch_dist.Store:
    """Wait until the ranks have met; tell where that takes long, and end where one of them has ended.

    Raises
    ------
    Fault
        If a rank that had come is no more.
    """
    begun, told = time.monotonic(), False
    while not wait([met], LOOK_SECONDS).done:
        if (gone := attendance.gone()) is not None:
            rank, name = gone
            raise Fault(
                f"rank {rank} (process {name['process']} on {name['host']}) exited before the {env.world} "
                "ranks had met: check its output, and start all of them again"
            )
        if not told and time.monotonic() - begun >= LATE_SECONDS:
            told = True
            if env.rank == 0:
                say(f"rank 0 waits at {_place()}: {attendance.count():,} of {env.world:,} ranks have joined")
            elif not attendance.has_entered and env.rank == env.local_rank:
                say(f"rank {env.rank} waits at {_place()} for rank 0, which has not joined")
            elif env.local_rank == 0:
                say(f"rank {env.rank} waits for others at {_place()}")
    return met.result()


def _place() -> str:
    """Return where the ranks meet."""
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


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
