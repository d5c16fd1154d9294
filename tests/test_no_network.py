"""Training, evaluation and report reach for no network: neither where there is none, nor unnoticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_settings, write_config

HOOK = '''
"""Any Python started with this refuses what leaves the machine, and writes down who has tried."""
import os, socket, sys, traceback

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        where = arguments[1]
        host = where[0] if isinstance(where, tuple) else ""  # a path is a socket of this machine
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or ""
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host and host not in ("localhost", "::1", os.uname().nodename) and not host.startswith("127."):
        with open(os.environ["TRIED"], "a") as file:
            file.write(f"{event} {host} {traceback.format_stack(limit=9)}\\n")
        raise OSError("there is no network here")

sys.addaudithook(refuse)
'''
LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""
DRIVER = """
import socket, sys
from ccscale.cli.main import main
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)  # that the hook is there
except OSError:
    pass
config, run = sys.argv[1:]
for command in (["train", config], ["evaluate", run], ["report", run]):
    assert main(command) == 0, command
"""


@pytest.mark.slow
def test_the_core_needs_no_network_and_looks_for_none(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK)
    settings = small_settings(shards, tmp_path / "run", train__max_steps=2, data__workers=1)
    # A network of its own with nothing in it but this machine, for what is not Python; where that is allowed.
    apart = ["unshare", "-rn", sys.executable, "-c", LOOPBACK]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        apart = []
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "hook"), *filter(None, [env.get("PYTHONPATH")])])
    env["TRIED"] = str(tmp_path / "tried")
    config = str(write_config(tmp_path, settings))
    command = [*apart, sys.executable, "-c", DRIVER, config, str(tmp_path / "run")]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stderr
    (tried,) = (tmp_path / "tried").read_text().splitlines()
    assert " 192.0.2.1 " in tried
    assert (tmp_path / "run/report.html").exists()
