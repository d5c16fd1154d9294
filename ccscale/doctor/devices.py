"""Checks of the CPU, its memory, shared memory and each GPU, by a small computation on each."""

import os
import shutil
from pathlib import Path

import torch
from rich.filesize import decimal

from ccscale.device import cpu_has_bf16
from ccscale.doctor.finding import Finding
from ccscale.wording import counted

LEAST_SHARED = 10**9  # bytes of shared memory, through which loader workers pass batches
SHARED = Path("/dev/shm")


def check_devices() -> list[Finding]:
    """Multiply two matrices on each device and check the result."""
    cores, physical = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bf16 = "" if cpu_has_bf16() else ", no bfloat16 (train here by train.precision=fp32)"
    found = [Finding("CPU", "good", f"{counted(cores, 'core')}, {decimal(physical)} of memory{bf16}")]
    found += _check_shared()
    if not torch.cuda.is_available():
        return [*found, _without_gpu()]
    return found + [_check_gpu(number) for number in range(torch.cuda.device_count())]


def _check_gpu(number: int) -> Finding:
    what, device = f"GPU {number}", torch.device("cuda", number)
    try:
        ones = torch.ones(256, 256, device=device)
        good = bool(((ones @ ones) == 256).all())
        facts = torch.cuda.get_device_properties(device)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        return Finding(what, "wrong", f"a computation failed: {first}", "check nvidia-smi")
    if not good:
        remedy = "exclude it (CUDA_VISIBLE_DEVICES), and have it checked"
        return Finding(what, "wrong", "a computation gave a wrong result", remedy)
    bf16 = "" if torch.cuda.is_bf16_supported() else ", no bfloat16"
    return Finding(what, "good", f"{facts.name}, {decimal(facts.total_memory)}{bf16}")


def _without_gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", "note", "none found: training runs on the CPU, many times slower")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs only"
    remedy = (
        "install a PyTorch that matches your driver (https://pytorch.org/get-started/locally), and check whether "
        "CUDA_VISIBLE_DEVICES hides the GPUs"
    )
    return Finding("GPU", "wrong", f"a driver is installed, but this PyTorch ({built}) sees no GPU", remedy)


def _check_shared() -> list[Finding]:
    if not SHARED.is_dir() or (free := shutil.disk_usage(SHARED).free) >= LEAST_SHARED:
        return []
    remedy = "give the container more of it (docker run --shm-size=8g), or set data.workers=0"
    return [Finding("shared memory", "note", f"{SHARED} has {decimal(free)} free for loader workers", remedy)]
