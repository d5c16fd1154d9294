"""The ranks meet, and leave; one that does not come is told of."""

from datetime import timedelta

import pytest
import torch
from lives import free_port

from ccscale import dist
from ccscale.errors import Fault, InputError
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment


@pytest.mark.parametrize(
    ("rank", "why"), [(0, "1/2 clients joined"), (1, "timed out .* while trying to connect")]
)
def test_a_rank_that_does_not_come(monkeypatch, rank, why):
    port = str(free_port())
    monkeypatch.setattr("ccscale.process_group.TIMEOUT", timedelta(seconds=2))
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(Fault, match=rf"^the 2 ranks did not meet at 127.0.0.1:{port} \(.*{why}"),
        process_group(RankEnvironment(rank, 2), torch.device("cpu")),
    ):
        pass
    assert not torch.distributed.is_initialized()


def test_group_of_one():
    with process_group(RankEnvironment(), torch.device("cpu")):
        assert torch.distributed.is_initialized()
        assert (dist.rank(), dist.world()) == (0, 1)
        with process_group(RankEnvironment(), torch.device("cpu")):  # one that is there already is used
            pass
        assert torch.distributed.is_initialized()
    assert not torch.distributed.is_initialized()


def test_group_ends_with_an_error():
    with pytest.raises(InputError), process_group(RankEnvironment(), torch.device("cpu")):
        raise InputError("wrong")
    assert not torch.distributed.is_initialized()


def test_no_meeting_place(monkeypatch):
    for name in ("MASTER_ADDR", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(InputError, match="MASTER_ADDR is not set; start with torchrun, deepspeed or srun"),
        process_group(RankEnvironment(0, 2), torch.device("cpu")),
    ):
        pass


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("own", [True, False])
def test_a_rank_that_fails_alone_takes_no_leave(
    world: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To destroy the process group would wait for the others."""
    destroyed = []
    monkeypatch.setattr("ccscale.process_group._meet", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: destroyed.append(True))
    error = Fault("") if own else Fault("").told_by(0)
    with pytest.raises(Fault), process_group(RankEnvironment(world=world), torch.device("cpu")):
        raise error
    assert destroyed == [] if own and world > 1 else [True]
