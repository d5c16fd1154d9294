"""Servers on the loopback: HTTP that counts what it sends and fails on purpose, and an S3 endpoint."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from servers import FAULTS, ShardServer

__all__ = ["FAULTS", "ShardServer", "s3_bucket", "wait_until"]


@contextlib.contextmanager
def s3_bucket(name: str, files: Path) -> Iterator[str]:
    """Serve a folder's files from a bucket of an S3 endpoint, which the environment names; yield their URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with mock.patch.dict(os.environ, settings):
            client = boto3.client("s3")
            client.create_bucket(Bucket=name)
            for path in files.iterdir():
                client.upload_file(str(path), name, f"data/{path.name}")
            yield f"s3://{name}/data"
    finally:
        server.stop()


def wait_until(condition, seconds: float = 60) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
