"""The page: one HTML file with its style, scripts, figures and pictures inside, which fetches nothing.

::

    <style> <script>                 the files of assets/, in the order of SCRIPTS, in one function
    <script id="data">               JSON: all but the map and the pictures
    <script id="map-…">              base64 of little-endian arrays, or JSON (map-keys); read when the map is drawn
    <script id="sheet-N">            base64 of a WebP; read when its pictures come into view
    <script id="list-N">             all images of a cluster, and "more-N-I", their pictures: see `members.py`

What is large comes last and is decoded late: the page can be used before all of it has been read. A content
security policy lets nothing be fetched and no script run but the page's own, whatever a key or a class is named.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale.draw.tiles import COLUMNS, ReadTiles, encode_sheet
from ccscale.evaluate.table import Assignments
from ccscale.printing import visible
from ccscale.progress import Meter
from ccscale.report.clusters import ChosenImages
from ccscale.report.encoding import rounded, to_base64, to_json
from ccscale.report.inputs import Inputs
from ccscale.report.members import Members
from ccscale.report.projection import Plane

SCRIPTS = (
    "base",
    "words",
    "series",
    "chart",
    "timeline",
    "how_many",
    "sure",
    "sizes",
    "matrix",
    "names",
    "selection",
    "members",
    "viewer",
    "clusters",
    "map_data",
    "map",
    "overview",
    "main",
)
SHEET = 32  # tiles of a sheet, at most
MAP_PICTURES = 2_000  # points of the map with a picture, beside those of the clusters' sections
LARGEST_TILE, LARGE_TILE, SMALL_TILE = 160, 80, 48
FEW_TILES, MANY_TILES = 1_000, 4_000


def render(
    one: Inputs,
    data: dict[str, Any],
    members: Members,
    plane: Plane | None,
    read_tiles: ReadTiles,
    more: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return the report as UTF-8.

    Parameters
    ----------
    one
        The run.
    data
        What `report.build` put together; tiles and the map are added here.
    members
        The images of each cluster.
    plane
        Coordinates of the points of `one.points`; None: there is no map.
    read_tiles
        See `draw.tiles.tiles_of`.
    more
        Other blocks, by their names.
    """
    chosen = members.chosen
    points = None if plane is None or one.points is None else _Points(one, plane)
    extra = np.empty(0, dtype=np.int64) if points is None else points.choose_pictures(chosen)
    own = [group.rows for group in chosen]
    groups = own + [extra[start : start + SHEET] for start in range(0, len(extra), SHEET)]
    count = sum(map(len, own))
    side = LARGE_TILE if count + len(extra) <= MANY_TILES else SMALL_TILE
    further = dict(members.sheets())
    own_sheets, extra_sheets, further_sheets = _sheets(
        [
            (own, LARGEST_TILE if count <= FEW_TILES else side),
            (groups[len(own) :], side),
            (list(further.values()), SMALL_TILE),
        ],
        read_tiles,
    )
    data = data | {
        "columns": COLUMNS,
        "members": members.describe(),
        "tiles": [_describe_tiles(one.table, group) for group in chosen],
        "map": None if points is None else points.describe(groups),
    }
    blocks = [] if points is None else list(points.blocks(groups))
    blocks += [(f"sheet-{number}", sheet) for number, sheet in enumerate(own_sheets + extra_sheets) if sheet]
    blocks += more
    blocks += members.blocks(one.table)
    blocks += zip(further, further_sheets, strict=True)
    return _fill(one.name, data, blocks).encode()


def _sheets(
    parts: Sequence[tuple[Sequence[NDArray[np.int64]], int]], read_tiles: ReadTiles
) -> list[list[str]]:
    """Read the images of the groups of each part, (groups, side of a tile), once; return a sheet of each group."""
    wanted = [np.unique(np.concatenate([np.empty(0, np.int64), *groups])) for groups, _ in parts]
    sheets = []
    with Meter("drawing", sum(map(len, wanted)), "images", show=True) as meter:
        for (groups, side), samples in zip(parts, wanted, strict=True):
            tiles = read_tiles(samples, side, meter.advance)
            sheets.append([encode_sheet(tiles[np.searchsorted(samples, group)]) for group in groups])
    return sheets


def _describe_tiles(table: Assignments, chosen: ChosenImages) -> dict[str, Any]:
    rows = chosen.rows
    found: dict[str, Any] = {
        "surest": len(chosen.surest),
        "keys": table.keys.take(rows).to_pylist(),
        "confidence": [rounded(value, 3) for value in table.confidence[rows]],
        "labels": table.labels[rows].tolist(),
    }
    if table.second is not None:
        found["second"] = table.second[rows].tolist()
    return found


class _Points:
    """The points of the map, those of images without a cluster left out."""

    def __init__(self, one: Inputs, plane: Plane) -> None:
        assert one.points is not None
        kept = one.table.clusters[one.points.rows] >= 0
        self.rows = one.points.rows[kept]
        self.coordinates = plane.coordinates[kept]
        self.method = plane.method
        self.table = one.table
        self.clusters = one.clusters

    def choose_pictures(self, chosen: Sequence[ChosenImages]) -> NDArray[np.int64]:
        """Return rows drawn at random, fixed seed, among those without a picture in a cluster's section."""
        others = np.setdiff1d(self.rows, np.concatenate([group.rows for group in chosen]))
        count = min(MAP_PICTURES, len(others))
        return np.sort(np.random.default_rng(0).choice(others, count, replace=False))

    def describe(self, groups: list[NDArray[np.int64]]) -> dict[str, Any]:
        """Return what the page says of the map."""
        return {
            "count": len(self.rows),
            "images": len(self.table.keys),
            "pictures": int((self._pictures(groups) >= 0).sum()),
            "sheet": SHEET,
            "extra": [len(group) for group in groups[self.clusters :]],
            "method": self.method,
            "labelled": bool((self.table.labels[self.rows] >= 0).any()),
        }

    def blocks(self, groups: list[NDArray[np.int64]]) -> Iterable[tuple[str, str]]:
        """Yield the blocks of the map."""
        grid = np.rint(self.coordinates * 65535).astype(np.uint16)
        yield "map-x", to_base64(grid[:, 0])
        yield "map-y", to_base64(grid[:, 1])
        yield "map-cluster", to_base64(self.table.clusters[self.rows].astype(np.int32))
        confidence = self.table.confidence[self.rows].clip(0, 1)
        yield "map-confidence", to_base64(np.rint(confidence * 255).astype(np.uint8))
        yield "map-label", to_base64(self.table.labels[self.rows].astype(np.int32))
        yield "map-picture", to_base64(self._pictures(groups))
        yield "map-keys", to_json(self.table.keys.take(self.rows).to_pylist())

    def _pictures(self, groups: list[NDArray[np.int64]]) -> NDArray[np.int32]:
        """Return for each point sheet x SHEET + place in it, -1 for one without a picture."""
        where = {
            int(row): number * SHEET + place
            for number, group in enumerate(groups)
            for place, row in enumerate(group)
        }
        return np.array([where.get(int(row), -1) for row in self.rows], dtype=np.int32)


def _fill(name: str, data: dict[str, Any], blocks: Iterable[tuple[str, str]]) -> str:
    folder = files("ccscale.report") / "assets"

    def read(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    style = "\n" + read("style.css")
    scripts = "\n".join(read(f"{script}.js") for script in SCRIPTS)
    script = f'\n(() => {{\n"use strict";\n{scripts}}})();\n'
    return Template(read("page.html")).substitute(
        title=escape(visible(name)),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=to_json(data),
        blocks="\n".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in blocks),
    )


def _hash(text: str) -> str:
    """Return a content security policy's hash of an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
