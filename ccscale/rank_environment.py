"""The rank of this process and the number of ranks, from the environment.

Ranks come from torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE), which DeepSpeed's launcher
sets too (the last one as LOCAL_SIZE), else from those of a Slurm step, else there is one rank. Nothing is imported
for this: an error can tell its rank at once.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

LAUNCHER_VARIABLES = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "LOCAL_SIZE",
)
"""Of all launchers: what is read here, and by torch."""


@dataclass(frozen=True)
class RankEnvironment:
    """Rank and number of ranks of this process, in all and on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "RankEnvironment":
        """Read torchrun's variables, else those of a Slurm step with several tasks; else there is one rank."""
        if "RANK" in environment and "WORLD_SIZE" in environment:
            local_world = "LOCAL_WORLD_SIZE" if "LOCAL_WORLD_SIZE" in environment else "LOCAL_SIZE"
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", local_world)
        elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            # SLURM_NTASKS alone is also set in a batch script and in salloc's shell, which are one process.
            # It also binds each task to its own cores, which are then counted as they are.
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "")
        else:
            return cls()
        return cls(
            *(
                int(environment.get(name) or default)
                for name, default in zip(names, (0, 1, 0, 1), strict=True)
            )
        )
