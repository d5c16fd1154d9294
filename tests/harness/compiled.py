"""Triton's kernels compiled for a GPU that is not there, and what they take of it."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
MOST_SHARED = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that a block may have, by the GPU's compute capability."""


class Compiled(NamedTuple):
    """Registers and bytes of spilled ones of a thread, bytes of shared memory of a block, and the instructions."""

    registers: int
    stack: int
    shared: int
    instructions: list[str]


def compiled(
    kernel: Any,
    capability: int,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    folder: Path,
    **options: Any,
) -> Compiled:
    """Compile a kernel for a GPU of a compute capability.

    Parameters
    ----------
    kernel
        What ``triton.jit`` gave.
    capability
        80, 90 or 100.
    types
        Triton's type of each argument (``*fp32``, ``i32``); ``i32`` where it is not named. Pointers are
        multiples of 16, and so are numbers with ``:16`` behind their type.
    constants
        Of the arguments that are ``tl.constexpr``.
    folder
        For the code.
    options
        Of the launch: ``num_warps``, ``num_stages``, ``enable_fp_fusion``.
    """
    given = {name: types.get(name, "i32") for name in kernel.arg_names}
    signature = {
        name: "constexpr" if name in constants else of.removesuffix(":16") for name, of in given.items()
    }
    even = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, of) in enumerate(given.items())
        if name not in constants and of.startswith("*") | of.endswith(":16")
    }
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, places, even)
    found = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    code = folder / "kernel.cubin"
    code.write_bytes(found.asm["cubin"])
    usage = _dump("-res-usage", code)
    (registers, stack) = map(int, re.findall(r"REG:(\d+) STACK:(\d+)", usage)[-1])
    instructions = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", _dump("-sass", code))
    return Compiled(registers, stack, found.metadata.shared, instructions)


def _dump(what: str, code: Path) -> str:
    done = subprocess.run([TOOL, what, code], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
