"""Ranks with a network namespace each, whose links let so many bits a second out: real processes, a real bridge.

Root is needed, and what Linux calls veth, bridge and tbf. A rank's `LimitedLinks.enter` moves its process there.
"""

import ctypes
import os
import shutil
import subprocess
from types import TracebackType

SECONDS_IN_QUEUE = 1
NEW_NETWORK = 0x40000000  # CLONE_NEWNET


class LimitedLinks:
    """Namespaces that are there for the length of the context.

    Parameters
    ----------
    world
        Number of ranks.
    """

    def __init__(self, world: int) -> None:
        self._names = [f"ccscale-{os.getpid()}-{rank}" for rank in range(world)]
        self._hub = f"ccscale-{os.getpid()}-hub"

    def __enter__(self) -> "LimitedLinks":
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self) -> None:
        _run("ip", "netns", "add", self._hub)
        _in(self._hub, "ip", "link", "add", "bridge0", "type", "bridge")
        _in(self._hub, "ip", "link", "set", "bridge0", "up")
        for rank, name in enumerate(self._names):
            _run("ip", "netns", "add", name)
            peer = ("peer", "name", f"port{rank}", "netns", self._hub)
            _run("ip", "link", "add", "link0", "netns", name, "type", "veth", *peer)
            _in(self._hub, "ip", "link", "set", f"port{rank}", "master", "bridge0", "up")
            _in(name, "ip", "address", "add", f"10.77.0.{rank + 1}/24", "dev", "link0")
            for link in ("link0", "lo"):
                _in(name, "ip", "link", "set", link, "up")
        self.limit(10**8)  # tc has what it takes, or tells now
        self.limit(None)

    def _remove(self) -> None:
        for name in (*self._names, self._hub):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def limit(self, rate: float | None) -> None:
        """Let each rank send so many bits a second from now on; None: as many as it can."""
        for name in self._names:
            if rate is None:
                _in(name, "tc", "qdisc", "delete", "dev", "link0", "root")
                continue
            burst = max(16_384, round(rate / 8 / 500))  # of 2 ms
            shape = ("rate", f"{rate:.0f}bit", "burst", f"{burst}b", "latency", f"{SECONDS_IN_QUEUE}s")
            _in(name, "tc", "qdisc", "replace", "dev", "link0", "root", "tbf", *shape)

    def enter(self, rank: int) -> None:
        """Move this process, which has one thread that sends, to a rank's namespace, and gloo with it."""
        with open(f"/var/run/netns/{self._names[rank]}") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
        os.environ["GLOO_SOCKET_IFNAME"] = "link0"


def why_not() -> str | None:
    """Return why there can be no such links here, in a sentence; None where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [command for command in ("ip", "tc") if shutil.which(command) is None]:
        return f"there is no {missing[0]} here (the package iproute2)"
    try:
        with LimitedLinks(1):
            return None
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(error.cmd)}` failed: {error.stderr.strip()}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _in(name: str, *command: str) -> None:
    _run("ip", "netns", "exec", name, *command)
