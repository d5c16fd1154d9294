"""Shards that are the output of a command, ``pipe:CMD``: what the user allowed with ``data.allow_pipe``.

A command's output cannot be sought in, so that it is written to a temporary file first, which has no name and is
gone with the process. It must have the manifest's size and SHA-256.
"""

import hashlib
import os
import select
import signal
import subprocess
import tempfile
import time
from typing import IO

from ccscale.data.remote.location import PIPE
from ccscale.data.remote.retry import Patience, RemoteError
from ccscale.data.shards.manifest import Shard

_CHUNK = 2**20


def spool(place: str, shard: Shard, patience: Patience, folder: str | None) -> int:
    """Run a shard's command in a shell and return a descriptor of a file with its output.

    Parameters
    ----------
    place
        ``pipe:CMD``.
    shard
        Its entry in the manifest.
    patience
        For how long it is tried. A command that puts out nothing for that long is killed.
    folder
        Where the temporary file lies; None: where the system has them.

    Raises
    ------
    RemoteError
        If the output is another than the manifest's.
    Unreachable
        If the command failed for as long as it was tried.
    """

    def attempt() -> int:
        with tempfile.TemporaryFile(dir=folder) as file:
            digest = _run(place.removeprefix(PIPE), file, patience)
            size = os.fstat(file.fileno()).st_size
            if size != shard.filesize:
                raise RemoteError(f"its command puts out {size} bytes, and the manifest has {shard.filesize}")
            if digest != shard.sha256:
                raise RemoteError("its command puts out other bytes than the manifest's (SHA-256)")
            return os.dup(file.fileno())

    return patience.call(place, attempt)


def _run(command: str, file: IO[bytes], patience: Patience) -> str:
    """Run a command, write what it puts out, and return the SHA-256 of that."""
    digest = hashlib.sha256()
    process = subprocess.Popen(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    heard = time.monotonic()
    try:
        while True:
            if select.select([process.stdout], [], [], 0.5)[0]:
                data = os.read(process.stdout.fileno(), _CHUNK)
                if not data:
                    break
                digest.update(data)
                file.write(data)
                heard = time.monotonic()
            elif time.monotonic() - heard > patience.seconds or patience.is_over:
                raise ConnectionError("its command puts out nothing")
        code = process.wait(patience.seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the shell and what it started
        process.stdout.close()
        process.wait()
    if code:
        raise ConnectionError(f"its command ends with exit code {code}")
    file.flush()
    return digest.hexdigest()
