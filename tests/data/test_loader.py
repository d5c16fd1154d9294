"""The loader's processes end with the one that began them."""

import subprocess
import sys

import pytest

HALF_READ = """
import webdataset as wds
from ccscale.data.loader import load
from ccscale.data.remote.retry import Closing

def numbers():
    yield from range(1)

items = load(wds.DataPipeline(numbers), Closing(), workers=2, prefetch=2)
print(next(items))
"""


@pytest.mark.slow
def test_a_process_ends_while_something_refers_to_its_loader() -> None:
    """Its workers wait for what to do next, and leave signals to it; they are told that nobody waits for them."""
    done = subprocess.run([sys.executable, "-c", HALF_READ], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
