"""How a process of ccscale ends.

The process leaves after the exit handlers and before the interpreter is taken down: threads of libraries may still
be at work then. Gloo's hold Python objects of the last collective call (DeepSpeed keeps its process groups), and
what they give back to an interpreter that is gone aborts the process (pytorch/pytorch#179291). Without gloo it was
seen too, once in some twenty conversions that had nothing left to do.
"""

import atexit
import contextlib
import os
import sys
from typing import Any

from ccscale.exit_codes import FAULT, INTERRUPTED


class ProcessExit:
    """Ends this process with `code` once the interpreter has called all other exit handlers.

    Make it before others register theirs: handlers are called last to first.
    """

    def __init__(self) -> None:
        self.code: Any = FAULT
        atexit.register(self._exit)

    def _exit(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def exit_at_once() -> None:
    """End this process on a second Ctrl-C, whatever it waits for."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted again: ended at once, with nothing more saved\n")
    os._exit(INTERRUPTED)
