"""scikit-learn's handwritten digits: a data set that needs no files."""

from ccscale.data.sources.contents import Bytes, encode_png
from ccscale.data.sources.items import Item, Source


def digits() -> Source:
    """Return scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, 10 classes, one split."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = (data.images * (255 / 16)).round().astype("uint8")  # values are 0..16
    items = [
        Item(f"digit-{number:04d}", Bytes(encode_png(pixels)), int(label), f"load_digits[{number}]")
        for number, (pixels, label) in enumerate(zip(grey, data.target, strict=True))
    ]
    classes = tuple(str(digit) for digit in range(10))
    return Source("digits", "digits", classes, classes, {"train": items})
