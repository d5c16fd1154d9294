"""The kernels as compiled for GPUs that are not here: what they take of one, and what they do for a number of S."""

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ccscale.loss.tuning import candidates

triton = pytest.importorskip("triton")

TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SHARED = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes that a block may take, by capability
TENSOR_MEMORY = 512  # columns of it, where there is some

# Instructions for a number of S, masked tiles included, by (kernel, parts), as compiled for Hopper.
INSTRUCTIONS = {("sums", 1): 9, ("sums", 2): 12.5, ("pulls", 1): 13, ("pulls", 2): 21.5}
# Older GPUs load their operands themselves, newer ones unroll their waits.
MORE_INSTRUCTIONS = {80: 1.9, 90: 1.0, 100: 1.5}
# All sums are kept beside the operands of three products: on a GPU without asynchronous ones that is much.
SPILLED = {80: 256, 90: 0, 100: 0}

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="Triton came without cuobjdump")


class Compiled(NamedTuple):
    """What a kernel takes of a GPU: bytes of shared memory and of the stack, columns, registers, instructions."""

    shared: int
    columns: int
    registers: int
    stack: int
    instructions: float


def compiled(
    name: str, capability: int, parts: int, width: int, config: dict[str, int], folder: Path
) -> Compiled:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ccscale.loss import kernels

    kernel = getattr(kernels, f"{name}_kernel")
    options = {key: value for key, value in config.items() if key.startswith("num_")}
    constants = {"WIDTH": width, "PARTS": parts, "OWN": True, "APART": False} | {
        key: value for key, value in config.items() if key not in options
    }
    types = dict.fromkeys(("U", "V", "U_LOW", "V_LOW"), "*fp16") | dict.fromkeys(
        ("OUT", "W_U", "W_V"), "*fp32"
    )
    types |= dict.fromkeys(("G_U", "G_V"), "*i64") | dict.fromkeys(constants, "constexpr")
    names = kernel.arg_names
    source = ASTSource(
        kernel,
        {arg: types.get(arg, "i32") for arg in names},
        {(names.index(arg),): value for arg, value in constants.items()},
        {(number,): [["tt.divisibility", 16]] for number, arg in enumerate(names) if arg not in constants},
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    binary = folder / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])
    usage = re.search(r"REG:(\d+) STACK:(\d+)", _told("-res-usage", binary))
    assert usage is not None
    columns = getattr(made.metadata, "tmem_size", None) or 0
    per_element = _per_element(_told("-sass", binary))
    return Compiled(made.metadata.shared, columns, int(usage[1]), int(usage[2]), per_element)


def _told(what: str, binary: Path) -> str:
    done = subprocess.run([TOOL, what, binary], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _per_element(code: str) -> float:
    """Return the instructions for an exponential in the shortest loop that has some."""
    lines = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,5})\*/\s+([^;]+);", code)]
    number = {at: count for count, (at, _) in enumerate(lines)}
    found = []
    for end, (at, text) in enumerate(lines):
        to = re.search(r"\bBRA\b.*0x([0-9a-f]+)", text)
        if to and int(to[1], 16) < at:
            body = lines[number[int(to[1], 16)] : end + 1]
            exponentials = sum("MUFU.EX2" in instruction for _, instruction in body)
            found += [len(body) / exponentials] if exponentials else []
    return min(found)


def check(capability: int, name: str, parts: int, width: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    config = candidates(width, parts, name == "pulls")[0]
    found = compiled(name, capability, parts, width, config, tmp_path)
    assert found.shared <= SHARED[capability], found
    assert found.columns <= TENSOR_MEMORY, found
    assert found.registers * 32 * config["num_warps"] <= 65_536, found
    assert found.stack <= (SPILLED[capability] if parts == 2 else 0), found
    if width == 128:
        assert found.instructions <= INSTRUCTIONS[name, parts] * MORE_INSTRUCTIONS[capability], found


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ["sums", "pulls"])
def test_hopper_holds_the_kernels(
    name: str, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(90, name, parts, 128, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sums", "pulls"])
@pytest.mark.parametrize(
    ("capability", "parts", "width"),
    [(80, 1, 128), (80, 2, 128), (100, 1, 128), (100, 2, 128), (90, 2, 256), (90, 1, 512)],
)
def test_others_hold_them(
    capability: int, name: str, parts: int, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(capability, name, parts, width, tmp_path, monkeypatch)
