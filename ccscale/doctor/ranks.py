"""Whether processes of this machine find each other, and train a step together under DeepSpeed."""

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

SECONDS = 180.0  # in which they must be done
NETWORK = (
    "let the loopback be reached (no proxy or firewall on 127.0.0.1), and name the network of the machines by "
    "GLOO_SOCKET_IFNAME, on GPUs NCCL_SOCKET_IFNAME too"
)
ENGINE = "pip install -U deepspeed (DeepSpeed compiles nothing for ccscale: no CUDA toolkit is needed)"


def check_ranks(ranks: int = 2) -> list[Finding]:
    """Start some ranks, and tell how far they came."""
    said, errors = _start(ranks)
    gpus = torch.cuda.device_count()
    over = "NCCL" if gpus >= ranks else "gloo"
    if "met" not in said:
        return [Finding(f"{ranks} ranks", "wrong", f"they do not meet: {errors}", NETWORK)]
    found = [Finding(f"{ranks} ranks", "good", f"they met and added up by {over} in {said['met']:.1f} s")]
    if gpus == 1:
        found.append(Finding("NCCL", "note", "there is one GPU: ranks of several GPUs could not be tried"))
    if "trained" not in said:
        return [*found, Finding("DeepSpeed", "wrong", f"it takes no step: {errors}", ENGINE)]
    return [*found, Finding("DeepSpeed", "good", f"its first step under ZeRO 1 took {said['trained']:.1f} s")]


def _start(ranks: int) -> tuple[dict[str, Any], str]:
    """Return what the first rank told, and what the last line was of one that failed."""
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
        errors.append(f"after {SECONDS:.0f} s they are not done")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    said: dict[str, Any] = {}
    for line in outputs[0].splitlines() if outputs else ():
        if line.startswith("{"):
            said |= json.loads(line)
    return said, errors[0] if errors else "nothing was said"
