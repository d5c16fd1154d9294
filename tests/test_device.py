"""The device of a rank: a GPU of its own where there are some, else the CPU."""

import pytest
import torch

from ccscale.device import pick_device
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
    with pytest.raises(InputError, match="local rank 4 has no GPU: this machine shows 4"):
        pick_device("auto", 4)


def test_each_task_is_shown_its_own_gpu(gpus):
    gpus(1)
    assert pick_device("auto", 3) == torch.device("cuda", 0)
