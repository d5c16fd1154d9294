"""A service in a process of its own: many clients while a new version comes, a signal, a port that is taken."""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import small_settings, write_config
from harness.odd_images import BAD
from harness.services import Process, service

from ccscale.cli.main import main
from ccscale.data.reader import SampleReader
from ccscale.evaluate.predict import PredictOptions, predict_run

CLIENTS, REQUESTS = 16, 200


@pytest.fixture(scope="module")
def growing(shards, tmp_path_factory) -> Path:
    """A run of two checkpoints, of which the second is not there yet, and what `predict` tells at each."""
    root = tmp_path_factory.mktemp("growing")
    settings = small_settings(shards, root / "run", train__max_steps=2, train__save_every=1)
    assert main(["train", str(write_config(root, settings))]) == 0
    for step in ("1", "2"):
        wanted = PredictOptions(str(root / f"{step}.parquet"))
        predict_run(root / "run", str(shards), wanted, device="cpu", workers=0, checkpoint=step)
    shutil.move(root / "run/checkpoints/step-00000002", root / "second")
    return root


class Client:
    """A connection that stays."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, data: bytes) -> tuple[int, dict[str, Any]]:
        self._connection.request("POST", "/v1/assign", data)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def disturb(port: int) -> Iterator[int]:
    """Yield the statuses of garbage, bombs, bodies that are too large, and such as never end."""
    slow = []
    for _ in range(20):
        slow.append(socket.create_connection(("127.0.0.1", port)))
        slow[-1].sendall(b"POST /v1/assign HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nabc")
    for data in (b"garbage", BAD["vast PNG"][0], BAD["vast JPEG"][0], bytes(3_000_000), b"") * 4:
        yield Client(port).ask(data)[0]
    for connection in slow:
        yield int(connection.recv(2**16).split()[1])
        connection.close()


@pytest.mark.slow
def test_a_new_version_while_many_ask(growing, manifest, capsys):
    reader = SampleReader(manifest, ["train"])
    data = [reader[i].data for i in range(len(reader))]
    tables = {
        f"step-0000000{step}": pq.read_table(growing / f"{step}.parquet").to_pylist() for step in (1, 2)
    }
    run = growing / "run"
    with service(run, "--max-body", "2MB", "--seconds", "2", "--device", "cpu") as process:
        other = main(["serve", str(run), "--port", str(process.port)])
        assert other == 2
        assert f"port {process.port} of 127.0.0.1 is in use" in capsys.readouterr().err

        def client(first: int) -> list[tuple[int, float, int, dict[str, Any]]]:
            asked, found = Client(process.port), []
            while len(found) < REQUESTS // CLIENTS + 1 or found[-1][3]["version"] == "step-00000001":
                number = (first + CLIENTS * len(found)) % len(data)
                begin = time.monotonic()
                status, told = asked.ask(data[number])
                found.append((number, time.monotonic() - begin, status, told))
                if first == 0 and len(found) == 3:
                    shutil.move(growing / "second", run / "checkpoints/step-00000002")
            return found

        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            disturbance = threads.submit(lambda: list(disturb(process.port)))
            found = [one for part in threads.map(client, range(CLIENTS)) for one in part]
            assert disturbance.result() == [422, 422, 422, 413, 400] * 4 + [408] * 20
        assert len(found) >= REQUESTS
        assert {status for _, _, status, _ in found} == {200}
        assert {told["version"] for *_, told in found} == set(tables)
        for number, _, _, told in found:
            row = tables[told["version"]][number]
            assert told["id"] == row["cluster"]
            assert told["confidence"] == pytest.approx(row["confidence"], abs=1e-6)
        assert max(seconds for _, seconds, _, _ in found) < 10
        stopped(process, data[0])


def stopped(process: Process, data: bytes) -> None:
    """Tell it to stop while requests are under way: they are answered."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        asked = [threads.submit(Client(process.port).ask, data) for _ in range(CLIENTS)]
        time.sleep(0.05)
        code, said = process.stop()
        answered = [one for one in asked if one.exception() is None]
        assert all(one.result()[0] == 200 for one in answered)
        others = {type(one.exception()) for one in asked if one not in answered}
        assert others <= {ConnectionRefusedError, ConnectionResetError}  # they came after it
    assert code == 0
    assert "stopping on SIGTERM" in said
    assert "Traceback" not in said


REFUSED = {
    ("--host", "192.0.2.1"): "cannot listen on port 0 of 192.0.2.1: Cannot assign requested address",
    ("--host", "no.such.host.invalid"): "--host no.such.host.invalid is not an address of this machine",
    ("--port", "70000"): "--port 70000 is not a port: give a number up to 65535",
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_cannot_be_had(options, run, refused):
    assert refused("serve", run, "--port", "0", *options).startswith(REFUSED[options])


def test_a_missing_package_is_named(run, refused, monkeypatch):
    monkeypatch.setattr("ccscale.cli.serve.find_spec", lambda name: None)
    sentence = refused("serve", run)
    assert sentence == "serve needs aiohttp and prometheus_client: run `pip install 'ccscale[serve]'`"


def test_several_ranks_are_refused(run, refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert refused("serve", run).startswith("serve runs in one process")
