"""Ends a process of ccscale.

The process leaves after the exit handlers and before the interpreter is taken down: threads of libraries may still
be at work then. Gloo's hold Python objects of the last collective call (DeepSpeed keeps its process groups), and
what they give back to an interpreter that is gone aborts the process (pytorch/pytorch#179291). Without gloo it was
seen too, once in some twenty conversions that had nothing left to do.
"""

import atexit
import contextlib
import os
import sys
import threading
from typing import Any, ClassVar

from ccscale.exit_codes import FAULT, INTERRUPTED


class ProcessExit:
    """Ends this process with `code` once the interpreter has called all other exit handlers.

    Make it before others register theirs: handlers are called last to first.
    """

    of_this_process: ClassVar["ProcessExit | None"] = None

    def __init__(self) -> None:
        self.code: Any = FAULT
        ProcessExit.of_this_process = self
        atexit.register(self._exit)

    def _exit(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:  # it was closed before the process began
                    stream.flush()
            except OSError:  # a full disk, say
                self.code = self.code or FAULT
        os._exit(self.code)

    def limit(self, seconds: float) -> None:
        """Leave after this many seconds even if other exit handlers are at work still; itself one of them."""
        timer = threading.Timer(seconds, self._exit)
        timer.daemon = True
        timer.start()


def limit_exit(seconds: float) -> None:
    """Do not wait for longer than `seconds` for the exit handlers that were registered so far."""
    if ProcessExit.of_this_process is not None:
        atexit.register(ProcessExit.of_this_process.limit, seconds)


def exit_at_once() -> None:
    """End this process on a second Ctrl-C, whatever it waits for."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted again: ended at once, with nothing more saved\n")
    os._exit(INTERRUPTED)
