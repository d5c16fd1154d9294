"""A PNG of steps on increasing numbers of ranks: for each, computation and communication over time.

64 GPUs   |▒▒▒▒▒▒▒▒▒|██|▓▓▓▓▓▓▓▓▓▓|    computed; white: it waits
          |: : : : : ▄▄▄  : : : : :▄▄  travels
"""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ccscale.draw.canvas import FAINT, INK, MARGIN, SMALL, TITLE, begin, save
from ccscale.draw.lettering import write

WIDE, LABEL, LANE, GAP, BOX = 960, 180, 14, 12, 150
COLOURS = {
    "views": (148, 187, 233),
    "forward": (66, 133, 214),
    "instance loss": (244, 180, 0),
    "cluster loss": (219, 120, 30),
    "backward": (26, 82, 150),
    "optimizer": (120, 120, 180),
    "batch norm": (15, 157, 88),
    "gradients": (205, 60, 50),
    "others": (150, 152, 157),
}
"""Of what is computed or travels, by how its name begins."""


class Block(NamedTuple):
    """Something that is computed, or travels; in seconds."""

    travels: bool
    what: str
    begin: float
    end: float


def draw_steps(
    path: str | os.PathLike[str], heading: str, steps: Sequence[tuple[str, float, Iterable[Block]]]
) -> None:
    """Draw steps, one below the other."""
    row = 2 * LANE + GAP
    height = 2 * MARGIN + TITLE + len(steps) * row + 3 * GAP + LANE
    picture, pen = begin(WIDE, height, heading)
    scale = (WIDE - 2 * MARGIN - LABEL) / max(seconds for _, seconds, _ in steps)
    for number, (label, seconds, blocks) in enumerate(steps):
        left, top = MARGIN + LABEL, MARGIN + TITLE + number * row
        write(pen, (MARGIN, top), label, LABEL - 8, SMALL, INK)
        for block in blocks:
            place = top + LANE * block.travels
            ends = left + block.begin * scale, left + max(block.end * scale, block.begin * scale + 1)
            pen.rectangle([(ends[0], place), (ends[1], place + LANE - 2)], _colour(block.what))
        end = left + seconds * scale
        pen.line([(end, top), (end, top + 2 * LANE - 2)], INK)
    top = height - MARGIN - LANE
    for number, (what, colour) in enumerate(COLOURS.items()):
        left = MARGIN + number * (WIDE - 2 * MARGIN) // len(COLOURS)
        pen.rectangle([(left, top), (left + LANE - 2, top + LANE - 2)], colour)
        write(pen, (left + LANE + 2, top), what, BOX, SMALL, FAINT)
    save(picture, path)


def _colour(what: str) -> tuple[int, int, int]:
    return next((ink for name, ink in COLOURS.items() if what.startswith(name)), COLOURS["others"])
