"""How long a report of many clusters and points takes to open in Chromium, and how large it is.

    python tools/bench/report.py [--clusters 1000] [--points 100000] [--json]

The report is made of random data, with pictures as large as those of photographs. Times are the browser's own, from
the start of the navigation: first paint; interactive, when the page's script has run and everything can be
searched, sorted and clicked; loaded, when the whole file has been read; map, from the moment that the map comes
into view to its picture with all points; search, the longest of some texts typed into the search of clusters; all
images, from a click to the list of a cluster's images; enlarged, from a click to the picture; name, until a name is
told. The median of --repeats fresh browsers.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from ccscale.evaluate.table import Assignments
from ccscale.pool import Tick
from ccscale.report.inputs import Inputs, Points
from ccscale.report.members import PICTURES
from ccscale.report.report import build

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from chromium import address, browser, missing
from tool import parser


def synthetic(clusters: int, points: int, width: int = 64) -> Inputs:
    """Return a made-up run: features around a centre for each cluster, as many classes as clusters."""
    rng = np.random.default_rng(0)
    of = rng.integers(0, clusters, points)
    centres = rng.normal(size=(clusters, width))
    features = (centres[of] + rng.normal(size=(points, width))).astype(np.float16)
    labels = np.where(rng.random(points) < 0.7, of, rng.integers(0, clusters, points))
    confidence = rng.beta(5, 2, points).astype(np.float32)
    metrics = [
        {
            "kind": "step",
            "step": step,
            "loss": 8 + 4 / step,
            "instance_loss": 5 + 2 / step,
            "cluster_loss": 3 + 2 / step,
            "lr": 1e-3,
            "images_per_second": 1000 + step % 7,
        }
        for step in range(1, 20_001)
    ]
    return Inputs(
        name=f"synthetic/{clusters}",
        facts=(("Data", "synthetic"), ("Backbone", "none"), ("Checkpoint", "step 20,000")),
        shards="none",
        clusters=clusters,
        classes=tuple(f"class number {i}" for i in range(clusters)),
        table=Assignments(
            pa.array([f"n{i:08d}_{i * 7919 % 100_000}" for i in range(points)]),
            of.astype(np.int64),
            confidence,
            labels.astype(np.int64),
            rng.integers(0, clusters, points),
            confidence * rng.random(points, dtype=np.float32),
        ),
        points=Points(np.arange(points), features),
        metrics=metrics,
    )


def draw(samples: NDArray[np.int64], side: int, tick: Tick) -> NDArray[np.uint8]:
    """Return a picture for each sample: smooth colours with some grain, which compress as photographs do."""
    rng = np.random.default_rng(1)
    tiles = np.empty((len(samples), side, side, 3), dtype=np.uint8)
    for tile in tiles:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        tile[:] = (smooth + rng.integers(-12, 13, (side, side, 1))).clip(0, 255)
    tick(len(samples))
    return tiles


WORK = """
const done = arguments[arguments.length - 1];
const timed = async (call, until = () => true) => {
  const start = performance.now();
  call();
  while (!until()) await new Promise(requestAnimationFrame);
  return performance.now() - start;
};
const type = (text) => {
  const search = document.getElementById("search");
  search.value = text;
  search.dispatchEvent(new Event("input"));
};
(async () => {
  const search = [];
  for (const text of ["c", "cl", "number 1", "number 19", ""]) search.push(await timed(() => type(text)));
  const find = (selector) => document.querySelector(`#cluster-1 ${selector}`);
  find("h3").scrollIntoView({ behavior: "instant" });
  const all = await timed(() => find(".all-images").click(), () => find(".all .pick"));
  const picture = () => document.querySelector("#viewer .tile")?.style.backgroundImage;
  const shown = await timed(() => find(".all .pick").click(), picture);
  document.getElementById("viewer").close();
  find(".name-it").click();
  find("form input").value = "cats";
  const name = await timed(() => find("form button").click());
  done({ search: Math.max(...search), "all images": all, enlarged: shown, name });
})();
"""


def measure(path: Path) -> dict[str, float]:
    """Open a report in a fresh browser; return its times in milliseconds."""
    with browser() as driver:
        driver.get(address(path))
        while not driver.execute_script("return performance.getEntriesByType('paint').length == 2"):
            time.sleep(0.01)  # it may be loaded before it is painted
        found = driver.execute_script(
            "const entry = performance.getEntriesByType('navigation')[0];"
            "const named = (name) => performance.getEntriesByName(name)[0]?.startTime ?? NaN;"
            "return {'first paint': named('first-contentful-paint'), interactive: named('interactive'),"
            " loaded: entry.loadEventEnd};"
        )
        start = time.perf_counter()
        driver.execute_script("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
        while not driver.execute_script("return document.querySelector('.map canvas')?.dataset.drawn"):
            time.sleep(0.01)
        found["map"] = (time.perf_counter() - start) * 1000
        return found | driver.execute_async_script(WORK)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--clusters", type=int, default=1000)
    options.add_argument("--points", type=int, default=100_000)
    options.add_argument("--pictures", type=int, default=PICTURES)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--keep", type=Path, help="leave the report there")
    args = options.parse_args()
    if missing():
        raise SystemExit(missing())
    start = time.perf_counter()
    page = build(synthetic(args.clusters, args.points), None, draw, args.pictures)
    made = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = args.keep or Path(folder) / "report.html"
        path.write_bytes(page)
        runs = [measure(path) for _ in range(args.repeats)]
    times = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    if args.json:
        print(json.dumps({"bytes": len(page), "made_seconds": made, "milliseconds": times}))
        return
    print(
        f"{args.clusters:,} clusters, {args.points:,} points: {len(page) / 1e6:.1f} MB, made in {made:.0f} s"
    )
    for name, value in times.items():
        print(f"  {name:12} {value:6.0f} ms")


if __name__ == "__main__":
    main()
