"""A snapshot is the state of its moment, whatever happens to the tensors afterwards."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ccscale.checkpoint.rank_files import HashedFile, collect_notes, write_files
from ccscale.checkpoint.snapshot import StateCopy


@dataclass
class Fragment:
    """As DeepSpeed keeps in its states."""

    start: int
    values: torch.Tensor


def state() -> dict[str, Any]:
    flat = torch.arange(12.0)
    return {
        "flat": flat,
        "view": flat[2:8].view(2, 3),
        "again": flat,
        "channels_last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "empty": torch.empty(0, 3),
        "count": torch.tensor(3, dtype=torch.int64),
        "fragment": Fragment(1, flat[:1]),
        "weights": nn.Linear(2, 2).state_dict(),
        "numbers": [1, (2.5, None), {"x"}],
    }


def assert_same(found: Any, expected: Any) -> None:
    for name in ("flat", "view", "again", "channels_last", "empty", "count"):
        assert torch.equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype
        assert found[name].stride() == expected[name].stride()
    assert found["fragment"].start == 1
    assert torch.equal(found["fragment"].values, expected["fragment"].values)
    assert found["numbers"] == expected["numbers"]
    assert type(found["weights"]) is type(expected["weights"])
    assert torch.equal(found["weights"]["weight"], expected["weights"]["weight"])


def test_what_changes_afterwards_is_not_in_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    value = state()
    snapshot = {"deepspeed/a.pt": StateCopy.of(value)}
    torch.manual_seed(0)
    expected = state()
    for name in ("flat", "channels_last", "count"):
        value[name].add_(1)
    for tensor in value["weights"].values():
        tensor.zero_()
    value["numbers"].append(5)
    value["fragment"].start = 9
    write_files(tmp_path, 3, snapshot)
    assert_same(torch.load(tmp_path / "deepspeed/a.pt", weights_only=False), expected)


def test_a_tensor_is_copied_once_and_a_view_without_the_rest() -> None:
    value = state()
    copies = StateCopy.of(value).tensors
    restored = StateCopy.of(value).restore()
    assert restored["again"] is restored["flat"]
    assert sum(copy.numel() == 12 for copy in copies) == 1
    assert {copy.untyped_storage().nbytes() for copy in copies if copy.numel() == 6} == {24}


def test_notes_of_all_ranks_say_what_was_written_and_the_rest_is_removed(tmp_path: Path) -> None:
    for rank in range(3):  # rank 2 is of a save before, on more ranks, that was cut off
        write_files(tmp_path, rank, {f"deepspeed/{rank}.pt": StateCopy.of(torch.full((3,), rank))})
    written = collect_notes(tmp_path, 2)
    assert sorted(written) == ["deepspeed/0.pt", "deepspeed/1.pt"]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(written)
    assert written["deepspeed/1.pt"]["bytes"] == (tmp_path / "deepspeed/1.pt").stat().st_size


def test_a_write_that_fails_is_told_after_the_archive() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() > 500:
                raise OSError(28, "No space left on device")
            return super().write(data)

    file = HashedFile(Full())
    torch.save({"x": torch.zeros(1000)}, file)
    assert file.failure is not None
    assert file.failure.errno == 28
    assert pytest.approx(4000, rel=0.5) == file.facts["bytes"]
