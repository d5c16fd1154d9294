"""A tree of clusters as a PNG: a line of text for each cluster, joined from left to right.

name    note       ────┐
                       ├────────┐
name    note       ────┘        ├──
name    note       ─────────────┘
score of the merge 1 ............
"""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ccscale.draw.canvas import FAINT, INK, MARGIN, SMALL, TITLE, begin, save
from ccscale.draw.lettering import width_of, write

MAX_LEAVES = 200  # of more clusters the top of the tree is drawn
ROW, TREE, MAX_TEXT = 20, 640, 480
LINE, GRID, CUT = (26, 95, 180), (235, 236, 238), (192, 80, 20)
TICKS = 5
SCALE = "score of the merge"


def draw_dendrogram(
    path: str | os.PathLike[str],
    heading: str,
    joined: NDArray[np.int64],
    scores: NDArray[np.float64],
    describe: Callable[[list[int]], str],
    cut: int | None = None,
) -> None:
    """Draw a tree of K clusters, at least two.

    Parameters
    ----------
    path
        Where the PNG goes.
    heading
        A line above it.
    joined
        (K − 1, 2): the two nodes that each merge makes one; merge i makes node K + i, as SciPy's linkage has it.
    scores
        (K − 1,): how alike these are, 1 at most.
    describe
        Called with the clusters below a leaf of the picture (one, unless there are many); what stands beside it.
    cut
        The number of clusters where the tree should be cut: a line goes through as many branches.
    """
    from scipy.cluster.hierarchy import dendrogram

    count = len(joined) + 1
    shown = min(count, MAX_LEAVES)
    # A merge may be of a pair that is more alike than one before: the line then goes straight up, not back.
    heights = np.zeros(count + len(joined))
    for node in range(2 * count - shown, len(heights)):
        heights[node] = max(1 - scores[node - count], *heights[joined[node - count]])
    tree = np.column_stack([joined, heights[count:], np.full(len(joined), 2.0)])
    drawn = dendrogram(tree, shown, "lastp", no_plot=True)
    names = [describe(_below(joined, leaf)) for leaf in drawn["leaves"]]

    text = min(round(max(width_of(name, SMALL) for name in [*names, SCALE])) + 16, MAX_TEXT)
    left, top, bottom = MARGIN + text, MARGIN + TITLE, MARGIN + TITLE + shown * ROW
    picture, pen = begin(left + TREE + 2 * MARGIN, bottom + TITLE + MARGIN, heading)
    highest = heights.max() or 1.0

    def across(height: float) -> int:
        return left + round(TREE * height / highest)

    def down(place: float) -> int:
        return top + round(place / 10 * ROW)  # SciPy's leaves are 10 apart, the first at 5

    for height in np.linspace(0, highest, TICKS + 1):
        pen.line([(across(height), top), (across(height), bottom)], GRID)
        write(pen, (across(height) - 12, bottom + 4), f"{1 - height:.2f}", 60, SMALL, FAINT)
    write(pen, (MARGIN, bottom + 4), SCALE, text, SMALL, FAINT)
    for row, name in enumerate(names):
        write(pen, (MARGIN, down(10 * row + 5) - 8), name, text, SMALL, INK)
    for places, reach in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        one, above, beside, other = map(lambda h, place: (across(h), down(place)), reach, places)
        for line in ((one, above), (other, beside), (above, beside)):
            pen.line(line, LINE, 2)
    if cut is not None and 1 < cut < shown:
        place = across((heights[2 * count - cut] + heights[2 * count - cut - 1]) / 2)
        pen.line([(place, top), (place, bottom)], CUT, 2)
        write(pen, (place - 40, top - 16), f"{cut} clusters", 120, SMALL, CUT)
    save(picture, path)


def _below(joined: NDArray[np.int64], node: int) -> list[int]:
    """Return the clusters below a node, rising."""
    found, left = [], [node]
    while left:
        node = left.pop()
        if node <= len(joined):
            found.append(node)
        else:
            left += joined[node - len(joined) - 1].tolist()
    return sorted(found)
