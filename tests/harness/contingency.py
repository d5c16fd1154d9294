"""Tables of counts as tests write them down."""

import numpy as np

from ccscale.evaluate.contingency import Cells, Contingency


def counted(array: np.ndarray) -> Contingency:
    """Take a table (k, C)."""
    table = Contingency(len(array))
    table.add_cells(Cells(*np.nonzero(array), array[array != 0]))
    return table
