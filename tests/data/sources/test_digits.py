"""The digits are scikit-learn's."""

import io

import numpy as np
from PIL import Image

from ccscale.data.sources.digits import digits


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    source, data = digits(), load_digits()
    items = source.splits["train"]
    assert [item.label for item in items] == data.target.tolist()
    assert (items[0].key, items[-1].key) == ("digit-0000", "digit-1796")
    image = Image.open(io.BytesIO(items[3].content.read()))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
    assert np.array_equal(np.asarray(image), np.round(data.images[3] * 255 / 16))
