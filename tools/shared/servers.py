"""A server on the loopback: HTTP that counts what it sends and fails on purpose."""

import contextlib
import random
import re
import sys
import threading
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("503", "429", "stall", "cut", "short", "reset")


class _Threads(ThreadingHTTPServer):
    """Says nothing of clients that go away, which those do whose rank is killed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ShardServer:
    """Serves a folder over HTTP/1.1 with ranges, in threads of this process.

    Attributes
    ----------
    url
        Of the folder.
    requests, sent
        File name to the number of requests (failed ones too), and of bytes of bodies.
    targets, agents
        The targets of all requests as they came, with their queries, and the User-Agents.
    signature
        What every query must be, letter for letter; by default there is none to be. Other requests get a 403.
    redirect
        File name to the address that it is sent on to.

    It is a proxy, too: whatever host a target names, the file comes from the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.ranges: list[tuple[str, int, int]] = []
        self.targets: list[str] = []
        self.agents: set[str] = set()
        self.signature: str | None = None
        self.redirect: dict[str, str] = {}
        self._faults: list[list[Any]] = []  # pattern, fault, requests before it, requests that fail
        self._random: tuple[random.Random, float, tuple[str, ...]] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self, body=True)

            def do_HEAD(self) -> None:
                server._answer(self, body=False)

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = _Threads(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def fail(self, pattern: str, fault: str, times: float = 1, after: int = 0) -> None:
        """Let `times` requests for names that match fail in one of the ways of `_answer`, `after` good ones."""
        with self._lock:
            self._faults.append([pattern, fault, after, times])

    def fail_at_random(self, seed: int, rate: float, faults: tuple[str, ...] = FAULTS) -> None:
        """Let a share of all requests fail."""
        self._random = random.Random(seed), rate, faults

    def mend(self) -> None:
        """Fail no longer."""
        with self._lock:
            self._faults, self._random = [], None

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> "ShardServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _fault(self, name: str) -> str | None:
        with self._lock:
            self.requests[name] += 1
            for entry in self._faults:
                pattern, fault, before, times = entry
                if re.search(pattern, name) and before > 0:
                    entry[2] -= 1
                elif re.search(pattern, name) and times > 0:
                    entry[3] -= 1
                    return fault
            if self._random is not None:
                generator, rate, faults = self._random
                if generator.random() < rate:
                    return generator.choice(faults)
        return None

    def _answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path, _, query = re.sub("^http://[^/]*", "", request.path).partition("?")
        name = path.removeprefix("/")
        self.targets.append(request.path)
        self.agents.add(request.headers["User-Agent"])
        if name in self.redirect:
            request.send_response(302)
            request.send_header("Location", self.redirect[name])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        fault = self._fault(name)
        if self.signature is not None and query != self.signature:
            fault = "403"
        file = self.root / urllib.parse.unquote(name)
        if fault == "stall":  # it was accepted, and nothing comes
            self._closing.wait(20)
            request.close_connection = True
            return
        if fault == "reset":
            request.close_connection = True
            return
        if fault in ("503", "429", "403", "404") or not file.is_file():
            request.send_response(int(fault or 404))
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        data = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if asked and fault != "whole":
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
            if start >= len(data):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(data)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            if fault == "short":
                stop = start + (stop - start) // 2
            if fault == "elsewhere" and start:
                start, stop = start - 1, stop - 1
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            start, stop = 0, len(data)
            request.send_response(200)
        request.send_header("Content-Length", str(stop - start))
        request.end_headers()
        if not body:
            return
        part = data[start:stop]
        if fault == "cut" or (fault == "short" and not asked):
            part = part[: len(part) // 2]
            request.close_connection = True
        with self._lock:
            self.sent[name] += len(part)
            self.ranges.append((name, start, stop))
        with contextlib.suppress(OSError):  # the reader may have gone
            request.wfile.write(part)
