"""Whether the images of a folder are photographs, or something of other channels."""

import contextlib
from itertools import chain, islice

from ccscale.data.images.channels import other_channels
from ccscale.data.sources.items import Source

LOOKED_AT = 5  # images; one that cannot be read tells nothing


def channels_of(source: Source) -> int | None:
    """Return of how many channels the first images are; None for photographs."""
    for item in islice(chain.from_iterable(source.splits.values()), LOOKED_AT):
        with contextlib.suppress(OSError):
            if (channels := other_channels(item.content.read())) is not None:
                return channels
    return None
