"""Numbers as a page holds them: short JSON that no `<script>` can be left from, and arrays in base64."""

import base64
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rounded(value: float, digits: int = 5) -> float | None:
    """Return a number with so many significant digits; None for what JSON does not have."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def to_json(value: Any) -> str:
    r"""Return JSON that is safe inside ``<script>``: ASCII, and `<`, `>` and `&` as ``\u003c``, …"""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_base64(array: NDArray[Any]) -> str:
    """Return the bytes of an array, little-endian, in base64."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def sparse_rows(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int], most: int
) -> list[list[tuple[int, int]]]:
    """Count pairs, and keep of each row its largest counts.

    Parameters
    ----------
    rows, columns
        (N,) 0 or more: a pair each.
    shape
        Numbers of rows and columns.
    most
        Counts of a row that are kept.

    Returns
    -------
    list
        For each row (column, count), the largest first, and the lower column first of equal ones.
    """
    from scipy.sparse import coo_array

    table = coo_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape).tocsr()
    table.sort_indices()
    result = []
    for start, stop in zip(table.indptr[:-1], table.indptr[1:], strict=True):
        counts, where = table.data[start:stop], table.indices[start:stop]
        order = np.argsort(-counts, kind="stable")[:most]
        result.append([(int(where[i]), int(counts[i])) for i in order])
    return result
