"""Work on a store in small parts: more moments to be killed in; and in ivf, where there are few rows."""

from ccscale.embed import growing, opening
from ccscale.features import ivf, neighbours


def small_parts() -> None:
    """Make parts of 128 images, rounds of 1,024, and searches of 64 rows in cells of as many."""
    opening.ROWS, growing.ROUND = 128, 8
    neighbours.QUERIES, neighbours.EXACT_WORK, ivf.CELL = 64, 0, 64
