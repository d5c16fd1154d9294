"""A ring gives its slots in turn, each only when what was in it has been copied."""

import pytest
import torch
from harness.cuda_stand_in import Event, Stream, stand_in_for_cuda

from ccscale.data.ring import SLOTS, Ring


def test_a_slot_comes_again_when_its_copy_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_cuda(monkeypatch)
    ring = Ring(Stream())  # type: ignore[arg-type]
    places = []
    for number in range(2 * SLOTS):
        batch = ring.allot((2, 3, 4), torch.uint8).fill_(number)
        assert Event.waits == max(0, number + 1 - SLOTS)
        places.append(batch.data_ptr())
        assert ring.send(batch).eq(number).all()
    assert len(set(places)) == SLOTS
    assert places[:SLOTS] == places[SLOTS:]


def test_a_batch_may_be_larger_or_of_another_type(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_cuda(monkeypatch)
    ring = Ring(Stream())  # type: ignore[arg-type]
    for shape, dtype in (((2, 3), torch.uint8), ((3, 5), torch.float32), ((1, 2), torch.float64)) * 2:
        batch = ring.allot(shape, dtype)
        assert (batch.shape, batch.dtype, batch.is_contiguous()) == (shape, dtype, True)
        ring.send(batch)


@pytest.mark.gpu
def test_on_a_gpu_a_slot_is_pinned_and_not_written_over(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gpu.type == "cpu":
        stand_in_for_cuda(monkeypatch)
    ring = Ring(torch.cuda.Stream())
    sent = []
    for number in range(8):
        batch = ring.allot((64, 2**20), torch.uint8)
        assert batch.is_pinned() == (gpu.type == "cuda")
        sent.append(ring.send(batch.fill_(number)))
    if gpu.type == "cuda":
        torch.cuda.synchronize()
        assert [int(batch.double().mean()) for batch in sent] == list(range(8))
