"""The ranks meet, and leave; one that does not come is told of."""

import json
import subprocess
import time
from datetime import timedelta

import pytest
import torch
from lives import free_port
from torch.distributed import PrefixStore, TCPStore

from ccscale import dist
from ccscale import process_group as module
from ccscale.errors import Fault, InputError
from ccscale.process_group import process_group
from ccscale.process_name import begin_of, own_name
from ccscale.rank_environment import RankEnvironment
from ccscale.threads import background


@pytest.mark.parametrize(
    ("rank", "told", "why"),
    [
        (0, "rank 0 waits at 127.0.0.1:{}: 1 of 2 ranks have joined", "1/2 clients joined"),
        (1, "rank 1 waits at 127.0.0.1:{} for rank 0", "timed out .* while trying to connect"),
    ],
)
def test_a_rank_that_does_not_come(monkeypatch, capsys, rank, told, why):
    port = str(free_port())
    monkeypatch.setattr(module, "TIMEOUT", timedelta(seconds=2))
    monkeypatch.setattr(module, "LATE_SECONDS", 0.5)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(Fault, match=rf"^the 2 ranks did not meet at 127.0.0.1:{port} \(.*{why}"),
        process_group(RankEnvironment(rank, 2, rank, 2), torch.device("cpu")),
    ):
        pass
    assert told.format(port) in capsys.readouterr().err
    assert not torch.distributed.is_initialized()


def test_a_rank_that_has_ended_before_all_have_met(monkeypatch):
    """The others do not wait half an hour for it."""
    port = free_port()
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)

    def come_and_end() -> None:
        met = TCPStore("127.0.0.1", port, wait_for_workers=False, timeout=timedelta(seconds=30))
        store = PrefixStore("came 0", met)
        with subprocess.Popen(["sleep", "60"]) as other:
            name = own_name() | {"process": other.pid, "started": begin_of(other.pid)}
            store.set("1", json.dumps(name))
            time.sleep(1)
            other.kill()

    env = RankEnvironment(0, 3, 0, 3)
    ended = background(come_and_end)
    with (
        pytest.raises(
            Fault, match=r"^rank 1 \(process \d+ on .*\) exited before the 3 ranks had met: check its"
        ),
        process_group(env, torch.device("cpu")),
    ):
        pass
    ended.result(10)


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
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_rank_that_fails_alone_takes_no_leave(
    world: int, own: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To destroy the process group would wait for the others; on GPUs for what they have not begun, too."""
    destroyed = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr("ccscale.process_group._meet", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: destroyed.append(True))
    error = Fault("") if own else Fault("").told_by(0)
    with pytest.raises(Fault), process_group(RankEnvironment(world=world), torch.device(device)):
        raise error
    assert destroyed == ([] if world > 1 and (own or device != "cpu") else [True])


def test_gpus_are_connected_where_the_ranks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    device, given = torch.device("cuda", 3), {}

    def join(*_: object, **options: object) -> None:
        given.update(options)
        raise torch.distributed.DistBackendError(
            "NCCL error in: x.cpp:94\nLast error:\nDuplicate GPU detected\n"
        )

    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(
        torch.distributed, "rendezvous", lambda *_, **__: iter([(torch.distributed.HashStore(),)])
    )
    monkeypatch.setattr(torch.distributed, "init_process_group", join)
    with (
        pytest.raises(
            Fault, match=r"NCCL did not connect the GPUs of the 2 ranks \(Duplicate GPU detected\)"
        ),
        process_group(RankEnvironment(0, 2), device),
    ):
        pass
    assert given["device_id"] == device
