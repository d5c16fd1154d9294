"""The fused sums against the tiles, in Triton's interpreter on a CPU; on a GPU where there is one."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from ccscale.loss import instance_loss, similarity

pytest.importorskip("triton")

# In a process of its own: whether kernels are compiled or interpreted is decided when Triton is imported.
INTERPRETED = """
import torch
from ccscale.loss import fused
from ccscale.loss.similarity import largest_error

cpu = torch.device("cpu")
for kernel in (fused._sums_kernel, fused._pulls_kernel):
    kernel.configs = kernel.configs[-1:]  # the interpreter has no clock to choose by
fused.ROWS_AT_LEAST = 500  # two parts of the columns of some, one of others
# The interpreter takes bfloat16's bits for integers: float16 stands for what is narrower than float32.
for dtype, width, count in ((torch.float32, 20, 150), (torch.float16, 128, 67), (torch.float16, 16, 2)):
    print(str(dtype), largest_error(cpu, dtype, width, count))
"""


@pytest.mark.slow
def test_interpreted_kernels_are_the_tiles() -> None:
    """Ragged blocks, widths that are no power of two, a single row, columns dealt to several programs."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    errors = [line.split() for line in done.stdout.splitlines()]
    assert len(errors) == 3
    for dtype, error in errors:
        assert float(error) < (1e-5 if dtype == "torch.float32" else 1e-3)


def test_tiles_are_used_where_there_is_no_gpu() -> None:
    z = F.normalize(torch.randn(8, 4), dim=1)
    assert type(similarity.row_sums(z, 0.5)).__name__ == "RowSums"
    assert type(similarity.row_pulls(z, torch.zeros(8), 0.5)).__name__ == "RowPulls"


def test_what_is_wrong_on_a_device_is_not_used_and_told_once(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(similarity, "largest_error", lambda *_: 0.5)
    similarity.works.cache_clear()
    for _ in range(2):
        assert not similarity.works(torch.device("cpu"), torch.float32, 16)
    (warning,) = recwarn.list
    assert "off by 5.0e-01 of the largest, in torch.float32); the tiled one is slower" in str(warning.message)
    similarity.works.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 37, 5000])
def test_on_a_gpu_value_and_gradient_are_those_of_float64(dtype: torch.dtype, n: int) -> None:
    device = torch.device("cuda")
    assert similarity.works(device, dtype, 128)
    z = F.normalize(torch.randn(2, n, 128, generator=torch.Generator().manual_seed(n)), dim=2)
    found = []
    for inputs in (z.to(device, dtype), z.to(dtype).double()):
        a, b = (view.detach().requires_grad_() for view in inputs)
        loss = instance_loss(a, b, 0.5)
        loss.backward()
        found.append((float(loss), torch.stack([a.grad, b.grad]).double().cpu()))
    (value, gradient), (exact, expected) = found
    assert value == pytest.approx(exact, rel=1e-4)
    assert (gradient - expected).abs().max() <= similarity.TOLERANCES[dtype] * expected.abs().max()
