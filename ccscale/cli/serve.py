"""``ccscale serve``: answers requests over HTTP, and tells where."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from ccscale.cli.arguments import (
    add_checkpoint,
    add_clusters,
    add_device_alone,
    add_json,
    add_network,
    add_reject,
    amount,
    at_hand,
    byte_size,
    count,
    number,
)
from ccscale.errors import InputError
from ccscale.printing import put_json
from ccscale.progress import loading, say

EXAMPLES = """\
examples:
  ccscale serve runs/photos --reject .95
  curl --data-binary @a.jpg http://127.0.0.1:8080/v1/assign
  curl -F image=@a.jpg -F image=@b.heic http://127.0.0.1:8080/v1/assign
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_network(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: only this machine, 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=number, default=8080, help="port to listen on; 0: any free one (default: 8080)"
    )
    add_reject(parser, " (-1), with the reason")
    add_checkpoint(parser)
    add_clusters(parser)
    add_device_alone(parser)
    parser.add_argument(
        "--batch",
        type=count,
        metavar="N",
        default=32,
        help="maximum number of images per forward pass (default: 32)",
    )
    parser.add_argument(
        "--window",
        type=amount,
        metavar="MS",
        default=5.0,
        help="milliseconds that an image waits for others to fill a batch (default: 5)",
    )
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="decoding processes (default: the number of cores, at least 2 and at most 4)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body",
        type=byte_size,
        metavar="SIZE",
        default=20 * 2**20,
        help="maximum size of a request's body (default: 20MiB)",
    )
    limits.add_argument(
        "--max-pixels", type=count, metavar="N", default=2**26, help="of an image (default: 67108864)"
    )
    limits.add_argument(
        "--seconds",
        type=amount,
        metavar="S",
        default=10.0,
        help="time limit for receiving a body, and for decoding an image (default: 10)",
    )
    limits.add_argument(
        "--at-once",
        type=count,
        metavar="N",
        default=256,
        help="maximum number of requests in flight (default: 256)",
    )
    limits.add_argument(
        "--rate",
        type=amount,
        metavar="N",
        help="maximum number of requests per second from one address (default: unlimited)",
    )
    limits.add_argument(
        "--grace",
        type=amount,
        metavar="S",
        default=30.0,
        help="time limit for requests in flight when it stops (default: 30)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    missing = [name for name in ("aiohttp", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise InputError(f"serve needs {' and '.join(missing)}: run `pip install 'ccscale[serve]'`")
    if args.port > 65535:
        raise InputError(f"--port {args.port} is not a port: give a number up to 65535")
    with loading():
        from ccscale.serve.limits import Limits
        from ccscale.serve.serve import ServiceSettings, serve
        from ccscale.serve.source import ClusterSource

    def started(url: str, version: str) -> None:
        if args.json:
            put_json({"url": url, "version": version})
        else:
            say(f"serving {version} of {args.run} on {url}; Ctrl-C stops")

    source = ClusterSource(Path(at_hand(args.run)), args.device, args.checkpoint, args.clusters, args.reject)
    limits = Limits(
        body=args.max_body,
        pixels=args.max_pixels,
        seconds=args.seconds,
        at_once=args.at_once,
        rate=args.rate or None,
    )
    settings = ServiceSettings(
        args.host, args.port, args.batch, args.window / 1000, args.workers, args.grace, limits
    )
    serve(source, settings, started)
    return 0
