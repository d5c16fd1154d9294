"""A tree of clusters as a PNG: a line of text for each cluster, joined from left to right.

name    note       ────┐
                       ├────────┐
name    note       ────┘        ├──
name    note       ─────────────┘
score of the merge 1 ............
"""

import io
import os
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from ccscale import atomic
from ccscale.draw.contact_sheet import FAINT, INK, LARGE, MARGIN, PAPER, SMALL, TITLE
from ccscale.draw.lettering import width_of, write
from ccscale.evaluate.merging import Merge, cut

MAX_LEAVES = 200  # of more clusters the top of the tree is drawn
ROW, TREE, MAX_TEXT = 20, 640, 480
LINE = (26, 95, 180)
TICKS = 5
SCALE = "score of the merge"


def draw_dendrogram(
    path: str | os.PathLike[str], heading: str, merges: Sequence[Merge], describe: Callable[[list[int]], str]
) -> None:
    """Draw a tree.

    Parameters
    ----------
    path
        Where the PNG goes.
    heading
        A line above it.
    merges
        Of all clusters.
    describe
        Called with the clusters below a leaf of the picture (one, unless there are many); what stands beside it.
    """
    count = len(merges) + 1
    shown = min(count, MAX_LEAVES)
    groups = cut(merges, shown).tolist()
    members: list[list[int]] = [[] for _ in range(shown)]
    for cluster, group in enumerate(groups):
        members[group].append(cluster)
    names = [describe(clusters) for clusters in members]
    # The nodes that are joined in the picture, by the groups below them.
    below: dict[int, list[int]] = {cluster: [group] for cluster, group in enumerate(groups)}
    for number, merge in enumerate(merges):
        below[count + number] = list(dict.fromkeys(below[merge.a] + below[merge.b]))
    drawn = list(enumerate(merges))[count - shown :]
    order = below[count + len(merges) - 1] if merges else [0]
    rows = {group: place for place, group in enumerate(order)}

    # A merge may be of a pair that is more alike than one before: the line then goes straight up, not back.
    heights: dict[int, float] = {}
    for number, merge in drawn:
        lower = (heights.get(node, 0.0) for node in (merge.a, merge.b))
        heights[count + number] = max(1 - merge.score, *lower)
    top = max(heights.values(), default=1.0) or 1.0

    text = min(round(max(width_of(name, SMALL) for name in [*names, SCALE])) + 16, MAX_TEXT)
    left = MARGIN + text
    picture = Image.new("RGB", (left + TREE + 2 * MARGIN, 2 * MARGIN + 2 * TITLE + shown * ROW), PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, (MARGIN, MARGIN), heading, picture.width - 2 * MARGIN, LARGE, INK)

    def across(height: float) -> int:
        return left + round(TREE * height / top)

    def down(row: float) -> int:
        return MARGIN + TITLE + round((row + 0.5) * ROW)

    bottom = MARGIN + TITLE + shown * ROW
    for tick in range(TICKS + 1):
        height = top * tick / TICKS
        draw.line([(across(height), MARGIN + TITLE), (across(height), bottom)], (235, 236, 238))
        write(draw, (across(height) - 12, bottom + 4), f"{1 - height:.2f}", 60, SMALL, FAINT)
    write(draw, (MARGIN, bottom + 4), SCALE, text, SMALL, FAINT)
    for group, number in rows.items():
        write(draw, (MARGIN, down(number) - 8), names[group], text, SMALL, INK)

    def place(node: int) -> tuple[float, float]:
        """Return height and row of a node."""
        if node in spots:
            return spots[node]
        (group,) = below[node]
        return 0.0, float(rows[group])

    spots: dict[int, tuple[float, float]] = {}
    for number, merge in drawn:
        height = heights[count + number]
        ends = [place(merge.a), place(merge.b)]
        for end, row in ends:
            draw.line([(across(end), down(row)), (across(height), down(row))], LINE, 2)
        draw.line([(across(height), down(ends[0][1])), (across(height), down(ends[1][1]))], LINE, 2)
        spots[count + number] = height, (ends[0][1] + ends[1][1]) / 2
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    atomic.write_bytes(path, data.getvalue())
