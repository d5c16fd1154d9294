"""An image that ends its decoder, or keeps it busy, is bad, and the next one is decoded."""

import os
import signal
import threading

import numpy as np
import pytest
from harness.odd_images import BAD, ODD

from ccscale.data.images.whole import whole_image
from ccscale.errors import BadImage
from ccscale.serve.decoders import Decoders


def test_a_decoder_that_hangs_ends_or_was_killed():
    data = ODD["EXIF 6 JPEG"][0]
    with Decoders(1, 2**20, 0.5) as decoders:
        (decoder,) = decoders._all

        def check() -> None:
            np.testing.assert_array_equal(decoders.decode(data, 16, True), whole_image(data, 16))

        check()
        os.kill(decoder._process.pid, signal.SIGTERM)  # as a terminal, or systemd, sends it to all
        os.kill(decoder._process.pid, signal.SIGSTOP)
        with pytest.raises(BadImage, match=r"it was not decoded within 0\.5 s"):
            decoders.decode(data, 16, True)
        check()
        os.kill(decoder._process.pid, signal.SIGSTOP)
        threading.Timer(0.1, os.kill, (decoder._process.pid, signal.SIGKILL)).start()
        with pytest.raises(BadImage, match="its decoder has ended"):
            decoders.decode(data, 16, True)
        decoder._process.kill()
        decoder._process.join()
        check()
        with pytest.raises(BadImage, match="above the limit of 1,048,576"):
            decoders.decode(BAD["vast PNG"][0], 16, True)
        process = decoder._process
    assert not process.is_alive()
