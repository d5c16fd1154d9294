"""The fused colours of views against the plain ones: interpreted on a CPU, and on a GPU where there is one.

And compiled for GPUs that are not there.
"""

import os
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from harness.compiled import compiled
from test_colour import ALL_ON, drawn, make_colour, make_images

from ccscale.data.images import device_colour
from ccscale.data.images.colour import apply_colour
from ccscale.data.images.views import NEUTRAL, ColourParameters

# In a process of its own: whether kernels are compiled or interpreted is decided when Triton is imported.
INTERPRETED = """
import sys
import torch
from ccscale.data.images import fused_colour
from test_fused_colour import compare
if "large" in sys.argv:  # fewer programs: each takes its time here, however few its numbers are
    sys.argv.remove("large")
    fused_colour.PIXELS, fused_colour.TILES = 8192, ((64, 128), (64, 128))
for case in sys.argv[1:]:
    compare(torch.device("cpu"), *map(int, case.split(":")))
"""


def every_order() -> ColourParameters:
    """All orders of the four operations, and all pairs of them; some views are grey, some blurred."""
    order = np.array(list(permutations(range(4))), dtype=np.int8).repeat(2, axis=0)
    factors = np.tile(np.float32([1.4, 0.6, 1.7, -0.2]), (48, 1))
    factors[1::2] = np.where(np.arange(4) == order[1::2, :2, None], factors[1::2, None], NEUTRAL).max(1)
    return make_colour(
        48,
        order=order,
        factors=factors,
        grey=np.arange(48) % 7 == 0,
        sigma=np.where(np.arange(48) % 5 == 0, np.linspace(0.1, 2, 48), 0).astype(np.float32),
    )


def compare(device: torch.device, size: int, count: int, kernel: int, every: int = 0) -> None:
    """Compare the views of `count` images, or all orders: float32 to the last bit, others but for the rounding."""
    from ccscale.data.images.fused_colour import colour_fused

    settings = ALL_ON.model_copy(update={"size": size, "blur_kernel": kernel})
    colour = every_order() if every else drawn(settings, count)
    images = torch.randint(
        0, 256, (len(colour), size, size, 3), generator=torch.Generator().manual_seed(size)
    )
    images = make_images(len(colour), size) if size > 4 else images.to(torch.uint8)
    plain = apply_colour(images, colour, settings)
    # The interpreter cuts off what bfloat16 lacks: float16 stands for it.
    narrow = (torch.bfloat16, 2**-9) if device.type == "cuda" else (torch.float16, 2**-12)
    for dtype, largest in ((torch.float32, 0), narrow):
        fused = colour_fused(images.to(device), colour, settings, dtype)
        assert fused.dtype == dtype
        assert fused.is_contiguous(memory_format=torch.channels_last)
        assert (fused.cpu().float() - plain).abs().max() <= largest, (size, dtype)


def interpret(*cases: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, *cases],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_interpreted_kernels_are_the_plain_operations() -> None:
    """Sides of one pixel, odd, and even; blurs as wide as the image."""
    interpret("1:1:1", "5:2:9", "33:1:9")


@pytest.mark.slow
def test_interpreted_kernels_at_other_sizes_and_in_every_order() -> None:
    interpret("large", "9:0:5:1", "28:2:9", "32:1:23", "64:1:23", "96:1:9", "224:1:23")


TYPES = {"IMAGES": "*u8", "CHOSEN": "*i32", "PARAMETERS": "*fp32", "SUMS": "*i64", "SOURCE": "*fp32"}
MEAN, JITTER, APART = (
    {"MEAN": True, "APART": False},
    {"MEAN": False, "APART": False},
    {"MEAN": False, "APART": True},
)


@pytest.mark.parametrize(
    "capability", [pytest.param(80, marks=pytest.mark.slow), 90, pytest.param(100, marks=pytest.mark.slow)]
)
def test_compiled_kernels_keep_what_they_work_with_in_registers(capability, tmp_path, monkeypatch) -> None:
    """Nothing spilled, registers for 32 warps a multiprocessor and more, and no fused multiply-add of ours."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from ccscale.data.images import fused_colour

    def measure(kernel, out, constants, warps):
        types = TYPES | {"OUT": out, "line": "i32:16"}
        options = {"num_warps": warps, "enable_fp_fusion": False}
        found = compiled(kernel, capability, types, constants, tmp_path, **options)
        assert found.stack == 0
        assert found.shared <= 16384
        return found

    pixels = {"PIXELS": fused_colour.PIXELS}
    for out, kind in (("*i64", MEAN), ("*bf16", JITTER), ("*fp32", APART)):
        found = measure(fused_colour._jitter_kernel, out, kind | pixels, fused_colour.WARPS)
        assert found.registers <= 64  # of 65,536
        assert len(found.instructions) <= 1000
    for out, along, (rows, columns) in (
        ("*fp32", False, fused_colour.TILES[0]),
        ("*bf16", True, fused_colour.TILES[1]),
    ):
        constants = {"ALONG": along, "ROWS": rows, "COLUMNS": columns}
        found = measure(fused_colour._blur_kernel, out, constants, 4)
        assert found.registers <= 80
        assert len(found.instructions) <= 600
        assert not [name for name in found.instructions if name.startswith("FFMA")]


def test_the_plain_way_is_taken_where_there_is_no_gpu() -> None:
    images, colour = make_images(8), drawn(ALL_ON, 4)
    plain = apply_colour(images, colour, ALL_ON)
    for dtype in (torch.float32, torch.bfloat16):
        views = device_colour.colour_views(images, colour, ALL_ON, dtype)
        assert torch.equal(views, plain.to(dtype))
        assert views.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("wrong", [lambda *_: 0.5, lambda *_: 1 / 0])
def test_what_is_wrong_on_a_device_is_not_used_and_told_once(wrong, monkeypatch, recwarn) -> None:
    monkeypatch.setattr(device_colour, "largest_error", wrong)
    device_colour.works.cache_clear()
    for _ in range(2):
        assert not device_colour.works(torch.device("cpu"), torch.float32)
    (warning,) = recwarn.list
    assert "the plain ones are slower" in str(warning.message)
    device_colour.works.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "case", [(1, 1, 1), (9, 0, 5, 1), (28, 50, 9), (33, 50, 9), (96, 20, 23), (224, 10, 23)]
)
def test_on_a_gpu_the_views_are_those_of_a_cpu(case) -> None:
    compare(torch.device("cuda"), *case)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_used_and_never_waited_for() -> None:
    device, images, colour = torch.device("cuda"), make_images(64), drawn(ALL_ON, 32)
    on_device = images.to(device)
    for dtype in device_colour.TOLERANCES:
        assert device_colour.works(device, dtype)
        first = device_colour.colour_views(on_device, colour, ALL_ON, dtype)
        torch.cuda.set_sync_debug_mode("error")
        try:
            again = device_colour.colour_views(on_device, colour, ALL_ON, dtype)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(first, again)
