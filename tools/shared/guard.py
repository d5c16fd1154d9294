"""A guard against what reading a file has no business with: writing, starting a process, connecting."""

import contextlib
import os
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
HARMFUL = (
    *("os.", "pty.", "shutil.", "subprocess.", "tempfile.", "ctypes."),
    *("ftplib.", "pickle.", "socket.", "urllib."),
)
HARMLESS = {
    "os.listdir",
    "os.scandir",
    "os.getxattr",
    "os.listxattr",
    "os.walk",
    "os.fwalk",
    "socket.gethostname",
}


class Forbidden(BaseException):
    """Something was done that reading a file has no business with."""


class Guard:
    """Raises `Forbidden` at whatever writes, starts or connects while it is on; off, it does nothing.

    Audit hooks cannot be removed: there is one for the life of the process.
    """

    def __init__(self) -> None:
        self.armed = self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open":
            _, mode, flags = arguments
            bad = bool(flags & WRITING) or any(letter in (mode or "") for letter in "wax+")
        else:
            bad = event.startswith(HARMFUL) and event not in HARMLESS
        if bad:
            self.on = False  # what handles the exception may write
            raise Forbidden(f"{event}{arguments!r}")

    @contextlib.contextmanager
    def watching(self):
        self.on = self.armed
        try:
            yield
        finally:
            self.on = False
