"""The device of a rank: a GPU of its own where there are some, else the CPU."""

import pytest
import torch
import torch.nn.functional as F

from ccscale.device import float32_products, pick_device
from ccscale.errors import InputError


@pytest.fixture
def gpus(monkeypatch):
    def show(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return show


def test_without_gpus(gpus):
    gpus(0)
    assert pick_device("auto", 3) == pick_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(InputError, match=r"there is no CUDA device here; use train.device=cpu"):
        pick_device("cuda")


def test_with_gpus(gpus):
    gpus(4)
    assert pick_device("cpu", 3) == torch.device("cpu")
    assert pick_device("auto", 3) == pick_device("cuda", 3) == torch.device("cuda", 3)
    with pytest.raises(InputError, match="local rank 4 has no GPU: this machine has 4"):
        pick_device("auto", 4)


def test_each_task_is_shown_its_own_gpu(gpus):
    gpus(1)
    assert pick_device("auto", 3) == torch.device("cuda", 0)


def settings() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("tf32", "wanted"), [("none", (False, False)), ("convolutions", (True, False)), ("all", (True, True))]
)
def test_tf32_is_what_is_asked_for_and_torchs_own_afterwards(tf32, wanted):
    before = settings()
    with float32_products(torch.device("cuda", 0), tf32):
        assert settings() == wanted
        with float32_products(torch.device("cpu"), "none"):
            assert settings() == wanted
    assert settings() == before == (True, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_what_is_not_tf32_is_exact():
    x, kernel = torch.randn(8, 256, 16, 16, device="cuda"), torch.randn(256, 256, 3, 3, device="cuda")
    rows, device = torch.randn(512, 2048, device="cuda"), torch.device("cuda")
    exact = F.conv2d(x.double(), kernel.double()), rows.double() @ rows.double().T
    for tf32, rounded in (("none", (False, False)), ("convolutions", (True, False)), ("all", (True, True))):
        with float32_products(device, tf32):
            found = F.conv2d(x, kernel), rows @ rows.T
        errors = [((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True)]
        assert [error > 3e-5 for error in errors] == list(rounded), (tf32, errors)
