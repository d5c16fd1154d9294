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
from triton.runtime import interpreter

set_up = interpreter._patch_lang_tensor

def with_index(tensor, *more):  # Triton 3.6 takes int() of an array of one number, which numpy 2.4 refuses
    set_up(tensor, *more)
    tensor.__index__ = lambda self: int(self.handle.data.item())

interpreter._patch_lang_tensor = with_index

from ccscale.loss import fused, tuning
from ccscale.loss.similarity import largest_error

cpu = torch.device("cpu")
fused.ROWS_AT_LEAST, fused.LEAST_PART = 500, 128  # two parts of the columns of some, one of others
for half, width, count in ((False, 20, 150), (True, 128, 67), (True, 16, 2)):
    print(half, largest_error(cpu, width, half, count))
for launch in (fused.launch_sums, fused.launch_pulls):  # what blocks are held to when they are chosen
    for parts in (1, 2):
        pulls = launch is fused.launch_pulls
        arguments, expected = tuning.trial(cpu, parts, 32, 128, 256, pulls)
        print(parts == 1, tuning.error(launch(*arguments, tuning.candidates(32, parts, pulls)[0]), expected))
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
    assert len(errors) == 7
    for half, error in errors:
        assert float(error) < (1e-3 if half == "True" else 2e-6)


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
        assert not similarity.works(torch.device("cpu"), 16, half=False)
    (warning,) = recwarn.list
    assert "off by 5.0e-01 of the largest, of 16 numbers a row); the tiled one is slower" in str(
        warning.message
    )
    similarity.works.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("n", "width", "half"),
    [(n, 128, half) for half in (True, False) for n in (1, 37, 5000)] + [(37, 512, True)],
)
def test_on_a_gpu_value_and_gradient_are_those_of_float64(
    n: int,
    width: int,
    half: bool,
    gpu: torch.device,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one image the loss is 0, and so is its gradient: what is left is rounding, of terms of 1 / τ."""
    if gpu.type == "cuda":
        assert similarity.works(gpu, width, half), [str(warning.message) for warning in recwarn]
    monkeypatch.setattr(similarity, "is_faster", lambda *_: True)
    n = n if gpu.type == "cuda" else min(n, 300)
    z = F.normalize(torch.randn(2, n, width, generator=torch.Generator().manual_seed(n)), dim=2).to(gpu)
    labels = torch.arange(n, device=gpu) % 3 - 1
    for of_images in (None, labels):
        found = []
        for inputs in (z, z.double()):
            a, b = (view.detach().requires_grad_() for view in inputs)
            loss = instance_loss(a, b, 0.5, labels=of_images, half=half)
            loss.backward()
            assert a.grad is not None
            assert b.grad is not None
            found.append((float(loss.detach()), torch.stack([a.grad, b.grad]).double()))
        (value, gradient), (exact, expected) = found
        assert value == pytest.approx(exact, rel=1e-4, abs=1e-3 if half else 1e-6)
        error = float((gradient - expected).abs().max())
        assert error <= similarity.TOLERANCES[half] * max(float(expected.abs().max()), 1 / n)
