"""Where this is imported, files are not flushed to the disk, and writing waits for no disk: for tests.

A flush makes a difference where the power fails, which no test has happen. That it comes before what counts on it
is tested by those who watch `os.fsync`, which is called as ever.
"""

import os


def fsync(descriptor: int) -> None:
    """Refuse what is no descriptor, as the system does, and do no more."""
    os.fstat(descriptor)


os.fsync = fsync  # type: ignore[assignment]
