"""Encodes data for the page: compact JSON that cannot break out of a `<script>`, and arrays in base64."""

import base64
import json
import math
from typing import Any

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
