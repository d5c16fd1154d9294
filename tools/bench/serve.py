"""Measures a service: requests a second, and how long one takes, by one client after the other and by many at once.

    python tools/bench/serve.py RUN|EXPORT --shards DIR [--requests 400] [--clients 1 16] [--json]

``ccscale serve`` is started in a process of its own, once with batches for the network and once with `--batch 1
--window 0`, so that each image goes through it alone; the images are the first of the shards, one a request, over
connections that stay. For each number of clients is told

    a_second    requests a second
    p50, p99    milliseconds from the request to its answer, half of them and 99 in 100 are below
    batch       images in a batch of the network, on average

"disturbed" is the first way once more, while 40 connections send their bodies byte by byte, and another one sends
garbage, bodies that are too large and images of more pixels than are taken, one after the other.

The clients are one process of this machine, and take a part of its time.
"""

import asyncio
import contextlib
import json
import statistics
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ccscale.cli.arguments import count
from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.printing import TextTable

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from tool import exit_code, parser, tell

WAYS = {"batches": (), "disturbed": (), "one at a time": ("--batch", "1", "--window", "0")}
SLOW = 40
IMAGES = 256
WARM = 32  # requests that are not counted


async def ask(
    url: str, images: list[bytes], requests: int, clients: int, disturbed: bool = False
) -> dict[str, float]:
    """Return what so many clients see together."""
    disturbance = asyncio.create_task(disturb(url)) if disturbed else None
    took: list[float] = []
    left = iter(range(requests))

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            begin = time.perf_counter()
            async with session.post("/v1/assign", data=images[number % len(images)]) as response:
                response.raise_for_status()
                await response.json()
            took.append(time.perf_counter() - begin)

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        before, begin = await batches(session), time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        seconds, after = time.perf_counter() - begin, await batches(session)
    if disturbance is not None:
        disturbance.cancel()
    parts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "clients": clients,
        "a_second": requests / seconds,
        "p50": 1000 * parts[49],
        "p99": 1000 * parts[98],
        "batch": (after[0] - before[0]) / (after[1] - before[1]),
    }


async def disturb(url: str) -> None:
    """Send what is refused, until cancelled."""
    port = int(url.rpartition(":")[2])
    header = struct.pack(">IIBBBBB", 2**16, 2**16, 8, 2, 0, 0, 0)
    vast = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    vast += struct.pack(">I", zlib.crc32(b"IHDR" + header))

    async def slow() -> None:
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/assign HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    writer.write(b"x")
                    await asyncio.sleep(0.6)
            writer.close()

    async def bad(session: aiohttp.ClientSession) -> None:
        while True:
            for data in (b"garbage", vast, bytes(21 * 2**20)):
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.post("/v1/assign", data=data) as response:
                        assert 400 <= response.status < 500

    async with aiohttp.ClientSession(url) as session:
        await asyncio.gather(bad(session), *(slow() for _ in range(SLOW)))


async def batches(session: aiohttp.ClientSession) -> tuple[float, float]:
    """Return how many images went through the network, and in how many batches."""
    async with session.get("/metrics") as response:
        text = await response.text()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return found["ccscale_batch_images_sum"], found["ccscale_batch_images_count"]


def measure(run: str, images: list[bytes], requests: int, clients: list[int]) -> list[dict[str, Any]]:
    """Return a row for each way and number of clients."""
    rows = []
    for way, options in WAYS.items():
        command = [sys.executable, "-m", "ccscale", "serve", run, "--port", "0", "--json", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            asyncio.run(ask(url, images, WARM, max(clients)))
            for many in clients:
                rows.append({"way": way, **asyncio.run(ask(url, images, requests, many, way == "disturbed"))})
            process.terminate()
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = TextTable("", "clients", "a second", "p50, ms", "p99, ms", "images a batch", text=("",))
    for row in rows:
        figures = (f"{row[name]:.1f}" for name in ("a_second", "p50", "p99", "batch"))
        table.add(row["way"], str(row["clients"]), *figures)
    table.put()


def main() -> int:
    """Measure, and print."""
    arguments = parser(__doc__)
    arguments.add_argument("run", metavar="RUN", help="the run's folder, or an exported network's")
    arguments.add_argument("--shards", metavar="DIR", required=True, help="whose images are asked for")
    arguments.add_argument("--requests", type=count, metavar="N", default=400)
    arguments.add_argument("--clients", type=count, metavar="N", nargs="+", default=[1, 16])
    args = arguments.parse_args()
    manifest = Manifest.load(args.shards)
    reader = SampleReader(manifest, tuple(manifest.splits))
    images = [reader[i].data for i in range(min(IMAGES, len(reader)))]
    tell(measure(args.run, images, args.requests, args.clients), args.json, show)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
