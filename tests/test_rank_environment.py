"""Where a process stands among the ranks, as its launcher says."""

import pytest

from ccscale.rank_environment import RankEnvironment


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, RankEnvironment(0, 1, 0, 1)),
        # torchrun
        (
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            RankEnvironment(5, 8, 1, 4),
        ),
        # deepspeed's launcher
        (
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_SIZE": "4"},
            RankEnvironment(5, 8, 1, 4),
        ),
        # a launcher that does not tell how many there are on a machine
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, RankEnvironment(1, 2, 1, 1)),
        # a Slurm step of several tasks
        (
            {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4"},
            RankEnvironment(3, 4, 1, 1),
        ),
        # torchrun, one on each node, started by srun
        (
            {
                "RANK": "5",
                "WORLD_SIZE": "8",
                "LOCAL_RANK": "1",
                "LOCAL_WORLD_SIZE": "4",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_LOCALID": "0",
            },
            RankEnvironment(5, 8, 1, 4),
        ),
        # salloc's shell, or a batch script: one process, whatever was asked for
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, RankEnvironment(0, 1, 0, 1)),
        # srun with a single task
        (
            {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
            RankEnvironment(0, 1, 0, 1),
        ),
        # LOCAL_RANK alone, as DeepSpeed leaves it behind
        ({"LOCAL_RANK": "3"}, RankEnvironment(0, 1, 0, 1)),
    ],
)
def test_from_environment(environment, expected):
    assert RankEnvironment.read(environment) == expected


def test_of_this_process(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("LOCAL_SIZE", raising=False)
    assert RankEnvironment.read() == RankEnvironment(1, 3, 0, 1)
