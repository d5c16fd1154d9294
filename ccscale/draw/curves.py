"""Curves as a PNG: one panel each, one below the other, readable on a phone too.

title         note
 |      ./\\.............   the curve; grey: what it is compared with
 |   ./      \\
 └───────●──────────────   the place that it votes for; shaded: a range over all panels
   2   4   8   16   32
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from ccscale.draw.canvas import FAINT, INK, MARGIN, SMALL, TITLE, begin, save
from ccscale.draw.lettering import write

WIDE, PLOT, HEAD, GAP = 480, 84, 22, 14
LINE, OTHER, GRID, SHADE = (26, 95, 180), (170, 172, 177), (235, 236, 238), (226, 236, 248)
Pen = ImageDraw.ImageDraw


@dataclass(frozen=True)
class Panel:
    """A curve.

    Attributes
    ----------
    title, note
        At the left and the right above it.
    values, other
        The curve, and what it is compared with; for each place.
    mark
        The place that is marked.
    """

    title: str
    note: str
    values: Sequence[float]
    other: Sequence[float]
    mark: int


def draw_curves(
    path: str | os.PathLike[str],
    lines: Sequence[str],
    places: Sequence[int],
    panels: Sequence[Panel],
    shaded: tuple[int, int] | None,
) -> None:
    """Draw panels over the same places, which rise; equal ratios are equally far apart.

    Parameters
    ----------
    path
        Where the PNG goes.
    lines
        What stands above it; the first as its heading.
    places
        The numbers that the curves are over, from 1 on.
    panels
        The curves.
    shaded
        A range of places.
    """
    text = TITLE + 16 * (len(lines) - 1)
    height = MARGIN + text + len(panels) * (HEAD + PLOT + GAP) + TITLE
    picture, pen = begin(WIDE, height, lines[0])
    for number, line in enumerate(lines[1:]):
        write(pen, (MARGIN, MARGIN + 22 + 16 * number), line, WIDE - 2 * MARGIN, SMALL, INK)
    span = max(np.log(places[-1] / places[0]), 1e-9)

    def across(place: float) -> int:
        return MARGIN + round((WIDE - 2 * MARGIN) * float(np.log(place / places[0])) / span)

    top = MARGIN + text
    for panel in panels:
        write(pen, (MARGIN, top), panel.title, WIDE // 3, SMALL, INK)
        write(pen, (MARGIN + WIDE // 3, top), panel.note, WIDE - WIDE // 3 - 2 * MARGIN, SMALL, FAINT)
        if shaded is not None:
            pen.rectangle(
                [(across(shaded[0]) - 2, top + HEAD), (across(shaded[1]) + 2, top + HEAD + PLOT)], SHADE
            )
        _draw(pen, panel, [across(place) for place in places], top + HEAD, across(panel.mark), places)
        top += HEAD + PLOT + GAP
    mark = 2 ** int(np.ceil(np.log2(places[0])))
    while mark <= places[-1]:
        write(pen, (across(mark) - 4, top - 8), f"{mark:,}", 40, SMALL, FAINT)
        mark *= 2
    save(picture, path)


def _draw(pen: Pen, panel: Panel, across: Sequence[int], top: int, mark: int, places: Sequence[int]) -> None:
    values = np.array([panel.values, panel.other])
    low, high = float(values.min()), float(values.max())

    def down(value: float) -> int:
        return top + PLOT - 4 - round((PLOT - 8) * (value - low) / max(high - low, 1e-12))

    pen.line([(across[0], top + PLOT), (across[-1], top + PLOT)], GRID)
    for curve, ink in ((panel.other, OTHER), (panel.values, LINE)):
        points = [(x, down(value)) for x, value in zip(across, curve, strict=True)]
        pen.line(points, ink, 2)
    height = down(float(np.interp(panel.mark, places, panel.values)))
    pen.ellipse([(mark - 4, height - 4), (mark + 4, height + 4)], LINE)
