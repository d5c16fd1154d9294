"""The collectives: on two ranks with different values, and without any group."""

import pickle
from typing import Any

import pytest
import torch
from harness.ranks import run_ranks

from ccscale import dist
from ccscale.data.shards.errors import ShardError
from ccscale.errors import CcscaleError, InputError


class TestAlone:
    """Without a process group every collective is the identity."""

    def test_collectives(self):
        x = torch.arange(6.0).view(2, 3).requires_grad_()
        assert (dist.rank(), dist.world()) == (0, 1)
        assert torch.equal(dist.gather_rows(x), x.detach().unsqueeze(0))
        assert torch.equal(dist.sum_(x.detach().clone()), x.detach())
        assert torch.equal(dist.start_sum(x.detach().clone()).wait(), x.detach())
        assert torch.equal(dist.start_gather_rows(x).wait(), x.detach().unsqueeze(0))
        assert list(dist.pass_round(x.detach())) == []
        assert dist.sum_integers((3, 2**60)) == [3, 2**60]
        assert dist.gather_objects("a") == dist.all_objects("a") == ["a"]
        assert dist.on_rank_zero(lambda: 5) == 5

    def test_on_rank_zero_raises(self):
        with pytest.raises(InputError, match=r"^wrong$") as caught:
            dist.on_rank_zero(lambda: fail(InputError("wrong")))
        assert caught.value.teller is None


@pytest.mark.parametrize("error", [InputError("a"), ShardError("a.tar", "it was cut off")])
def test_errors_travel_between_ranks(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)


def fail(error: Exception) -> None:
    raise error


def on_rank(rank: int) -> dict[str, Any]:
    """Try everything on a rank; what a rank gives has its number in it."""
    found: dict[str, Any] = {"place": (dist.rank(), dist.world())}
    found["gather_rows"] = dist.gather_rows(torch.full((2, 3), rank + 1.0).t().contiguous().t())
    summed = torch.tensor([rank + 1.0, 10.0 * rank])
    assert dist.sum_(summed) is summed
    found["sum_"] = summed

    rows = dist.start_gather_rows(torch.full((2,), rank + 1.0))
    coming = dist.start_sum(torch.tensor([rank + 1.0, 10.0 * rank]))
    found["on their way together"] = coming.wait().tolist(), rows.wait().tolist()
    found["pass_round"] = [received.tolist() for received in dist.pass_round(torch.tensor([rank, -rank]))]

    found["sum_integers"] = dist.sum_integers([rank, 2**60 + rank, -1])
    found["gather_objects"] = dist.gather_objects({"rank": rank})
    found["all_objects"] = dist.all_objects({"rank": rank})

    calls: list[int] = []
    found["on_rank_zero"] = dist.on_rank_zero(lambda: calls.append(rank) or f"from {rank}")
    found["called"] = calls
    for error in (InputError("wrong"), ShardError("a.tar", "cut off"), OSError("no room")):
        try:
            dist.on_rank_zero(lambda error=error: fail(error))
        except CcscaleError as caught:
            found[type(error).__name__] = (type(caught).__name__, caught.args, caught.teller)
    try:
        dist.together(lambda: fail(OSError("no room")) if rank == 1 else None)
    except CcscaleError as caught:
        found["together"] = (type(caught).__name__, str(caught), caught.teller)
    found["after the errors"] = dist.sum_integers([1])
    return found


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """What `on_rank` found on each of two ranks."""
    return run_ranks(2, on_rank)


def receive(rank: int) -> list[int]:
    return [int(received) for received in dist.pass_round(torch.tensor(rank))]


@pytest.mark.dist
class TestTwoRanks:
    def test_place(self, found):
        assert [of["place"] for of in found] == [(0, 2), (1, 2)]

    def test_gather_rows(self, found):
        """In the order of the ranks, from a tensor that does not lie in one piece."""
        expected = torch.stack([torch.full((2, 3), 1.0), torch.full((2, 3), 2.0)])
        assert all(torch.equal(of["gather_rows"], expected) for of in found)

    def test_sum(self, found):
        assert all(of["sum_"].tolist() == [3.0, 10.0] for of in found)

    def test_collectives_can_be_on_their_way_together(self, found):
        assert all(of["on their way together"] == ([3.0, 10.0], [[1.0, 1.0], [2.0, 2.0]]) for of in found)

    def test_pass_round(self, found):
        assert [of["pass_round"] for of in found] == [[[1, -1]], [[0, 0]]]

    def test_pass_round_begins_with_the_rank_before(self):
        assert run_ranks(4, receive) == [[3, 2, 1], [0, 3, 2], [1, 0, 3], [2, 1, 0]]

    def test_sum_integers(self, found):
        """Digests are 64 bits: no float may be on the way."""
        assert all(of["sum_integers"] == [1, 2**61 + 1, -2] for of in found)

    def test_objects(self, found):
        assert [of["gather_objects"] for of in found] == [[{"rank": 0}, {"rank": 1}], None]
        assert all(of["all_objects"] == [{"rank": 0}, {"rank": 1}] for of in found)

    def test_on_rank_zero(self, found):
        assert [of["on_rank_zero"] for of in found] == ["from 0", "from 0"]
        assert [of["called"] for of in found] == [[0], []]

    def test_what_rank_zero_raises_is_raised_everywhere(self, found):
        """And only one rank is to speak of it."""
        for of in found:
            assert of["InputError"] == ("InputError", ("wrong",), 0)
            assert of["ShardError"] == ("ShardError", ("a.tar", "cut off"), 0)
            assert of["OSError"] == ("Crash", ("OSError: no room",), 0)
            assert of["after the errors"] == [2]
        assert [of["together"] for of in found] == [
            ("Crash", "rank 1 failed: OSError: no room", 1),
            ("Crash", "OSError: no room", 1),
        ]
