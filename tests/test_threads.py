"""Calls in threads: their order, and their failures."""

import threading

import pytest
import torch

from ccscale.threads import background, each


def test_each_raises_the_first_failure_and_keeps_the_order() -> None:
    assert each([lambda i=i: i * i for i in range(20)], 4) == [i * i for i in range(20)]  # type: ignore[misc]
    assert each([], 4) == []
    with pytest.raises(ZeroDivisionError):
        each([lambda: 1, lambda: 1 // 0, lambda: 2], 2)


def test_a_thread_has_the_gpu_of_the_one_that_began_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: found.append((threading.get_ident(), device))
    )
    assert background(lambda: (threading.get_ident(), 5)).result() == found[0]
