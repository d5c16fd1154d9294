"""A check that several processes on this machine can connect and take a DeepSpeed step together."""

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import torch

from ccscale.doctor.finding import Finding
from ccscale.rank_environment import LAUNCHER_VARIABLES

SECONDS = 180.0  # time limit for the processes
NETWORK = (
    "allow connections to 127.0.0.1 (proxy, firewall), and set GLOO_SOCKET_IFNAME, on GPUs also "
    "NCCL_SOCKET_IFNAME, to the network interface that connects the machines"
)
ENGINE = "pip install -U deepspeed (ccscale uses none of its compiled operators: no CUDA toolkit is needed)"


def check_ranks(ranks: int = 2) -> list[Finding]:
    """Start some ranks and report how far they got."""
    said, errors = _start(ranks)
    gpus = torch.cuda.device_count()
    over = "NCCL" if gpus >= ranks else "gloo"
    if "met" not in said:
        return [Finding(f"{ranks} ranks", "wrong", f"they do not connect: {errors}", NETWORK)]
    found = [
        Finding(f"{ranks} ranks", "good", f"connected over {over} and summed a tensor in {said['met']:.1f} s")
    ]
    if gpus == 1:
        found.append(
            Finding("NCCL", "note", "there is only one GPU: communication between GPUs was not tested")
        )
    if "trained" not in said:
        return [*found, Finding("DeepSpeed", "wrong", f"a training step failed: {errors}", ENGINE)]
    return [
        *found,
        Finding("DeepSpeed", "good", f"import and a first step with ZeRO 1 took {said['trained']:.1f} s"),
    ]


def _start(ranks: int) -> tuple[dict[str, Any], str]:
    """Return the output of the first rank, and the last line of a rank that failed."""
    clean = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(ranks):
        place: dict[str, object] = {"RANK": rank, "LOCAL_RANK": rank}
        place |= {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "ccscale.doctor.meeting"],
                env=clean | {name: str(value) for name, value in place.items()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    end, outputs, errors = time.monotonic() + SECONDS, list[str](), list[str]()
    try:
        for process in processes:
            out, error = process.communicate(timeout=max(0.1, end - time.monotonic()))
            outputs.append(out)
            if process.returncode:
                errors.append((error.strip().splitlines() or [f"exit code {process.returncode}"])[-1])
    except subprocess.TimeoutExpired:
        errors.append(f"not finished after {SECONDS:.0f} s")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    said: dict[str, Any] = {}
    for line in outputs[0].splitlines() if outputs else ():
        if line.startswith("{"):
            said |= json.loads(line)
    return said, errors[0] if errors else "no output"
