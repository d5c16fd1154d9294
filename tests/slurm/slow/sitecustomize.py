"""Makes a job's first SLOW_LIVES lives slow: each step of training takes SLOW_STEP seconds more.

Python imports this module by itself where this folder is on PYTHONPATH. It gives signals and failures the time to
meet a run in the middle of an epoch, at no cost of computing.
"""

import importlib.util
import os
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LOG = "ccscale.train.log"


class Slowing:
    """Finds the module of a run's log before others do, and makes it slow to note a step."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != LOG:
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_slowly(module: ModuleType) -> None:
            execute(module)
            note = module.RunLog.step

            def note_slowly(log: Any, record: Any) -> Any:
                line = note(log, record)
                time.sleep(float(os.environ["SLOW_STEP"]))
                return line

            module.RunLog.step = note_slowly

        spec.loader.exec_module = execute_slowly  # type: ignore[method-assign]
        return spec


if int(os.environ.get("SLURM_RESTART_COUNT", "0")) < int(os.environ.get("SLOW_LIVES", "0")):
    sys.meta_path.insert(0, Slowing)  # type: ignore[arg-type]
