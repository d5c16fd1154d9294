"""Measures a service: requests a second, and how long one takes, by one client after the other and by many at once.

    python tools/bench/serve.py RUN|EXPORT --shards DIR [--requests 400] [--clients 1 16] [--json]

``ccscale serve`` is started in a process of its own, once with batches for the network and once with `--batch 1
--window 0`, so that each image goes through it alone; the images are the first of the shards, one a request, over
connections that stay. For each number of clients is told

    a_second    requests a second
    p50, p99    milliseconds from the request to its answer, half of them and 99 in 100 are below
    batch       images in a batch of the network, on average

The clients are one process of this machine, and take a part of its time.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
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

WAYS = {"batches": (), "one at a time": ("--batch", "1", "--window", "0")}
IMAGES = 256
WARM = 32  # requests that are not counted


async def ask(url: str, images: list[bytes], requests: int, clients: int) -> dict[str, float]:
    """Return what so many clients see together."""
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
    parts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "clients": clients,
        "a_second": requests / seconds,
        "p50": 1000 * parts[49],
        "p99": 1000 * parts[98],
        "batch": (after[0] - before[0]) / (after[1] - before[1]),
    }


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
            rows += [{"way": way, **asyncio.run(ask(url, images, requests, many))} for many in clients]
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
