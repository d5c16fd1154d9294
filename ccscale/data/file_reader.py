"""Reads listed images where they are, as `reader.SampleReader` reads those in shards."""

import os

from ccscale.data.conversion.reading import FULL, LOST
from ccscale.data.reader import Sample
from ccscale.data.shards.keys import escaped
from ccscale.data.sources.contents import File
from ccscale.data.sources.listing import ImageListing
from ccscale.errors import BadImage, Fault


class FileReader:
    """Reads image i of a listing; small, and can be sent to a worker."""

    is_remote = False

    def __init__(self, listing: ImageListing) -> None:
        self._names, self._paths = listing.names, listing.paths

    def __len__(self) -> int:
        return len(self._names)

    def key(self, sample: int) -> str:
        """Return the name of an image, as it was requested."""
        return self._names[sample].as_py()

    def origin(self, sample: int) -> str:
        """Return the absolute path of an image."""
        return escaped(os.fsdecode(self._paths[sample].as_py()))

    def __getitem__(self, sample: int) -> Sample:
        """Read an image.

        Raises
        ------
        BadImage
            If its file cannot be read.
        Fault
            If no file can, because the place that they are on has gone.
        """
        path = os.fsdecode(self._paths[sample].as_py())
        try:
            return Sample(self.key(sample), File(path).read(), -1)
        except OSError as error:
            if error.errno in LOST | FULL:
                raise Fault(
                    f"the images can no longer be read, at {path} ({error.strerror}): run the same "
                    "command again once they can"
                ) from None
            raise BadImage(f"the file cannot be read: {error.strerror or error}") from None
