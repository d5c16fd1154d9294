"""The picture of curves: a panel each, marked where it votes, the range shaded."""

import numpy as np
import pytest
from PIL import Image

from ccscale.draw.curves import GAP, HEAD, LINE, PLOT, SHADE, Panel, draw_curves


@pytest.mark.parametrize("panels", [1, 3])
def test_panels_lie_below_each_other(tmp_path, panels):
    places = [2, 3, 4, 8, 16]
    one = Panel("a criterion", "votes for 4", [0, 1, 2, 1, 0], [0, 0, 0, 0, 0], 4)
    for shaded in (None, (3, 8)):
        draw_curves(tmp_path / "curves.png", ["heading", "a line"], places, [one] * panels, shaded)
        with Image.open(tmp_path / "curves.png") as picture:
            pixels = np.array(picture)
        blue = np.flatnonzero((pixels == LINE).all(axis=2).any(axis=1))
        assert blue[-1] - blue[0] + 1 > (panels - 1) * (HEAD + PLOT + GAP)
        assert (pixels == SHADE).all(axis=2).any() == (shaded is not None)


def test_a_flat_curve_of_two_places(tmp_path):
    draw_curves(tmp_path / "flat.png", ["flat"], [2, 3], [Panel("flat", "", [1, 1], [1, 1], 2)], None)
    assert (tmp_path / "flat.png").stat().st_size > 0
