"""Opens only regular files: a FIFO would block, and a device may be endless."""

import errno
import os
import stat

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: str, flags: int) -> int:
    """Open a file and return its descriptor; the `opener` of Python's `open`.

    Raises
    ------
    OSError
        Also for what is no regular file, without waiting for it; ``strerror`` says what it is.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:  # what a socket says
            raise
        raise OSError(
            errno.EINVAL, "it is no file but a socket or a device that is not there", path
        ) from None
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"it is no file but {_KINDS.get(kind, 'something else')}", path)
