"""Collectives by latency and bandwidth, against figures that are worked out by hand."""

from dataclasses import replace

import pytest

from ccscale.plan.links import Links

FREE = Links(call=0, hop_inside=0, hop_between=0)


@pytest.mark.parametrize(
    ("links", "collective", "size", "world", "seconds"),
    [
        (Links(), "all_reduce", 10**9, 1, 0.0),
        (FREE, "all_gather", 450e9, 8, 7 / 8),
        (FREE, "all_reduce", 450e9, 8, 2 * 7 / 8),
        (FREE, "all_reduce", 400e9, 16, 2 * 15 / 16),  # eight cards of 50 GB/s are less than a GPU has inside
        (replace(FREE, cards=1), "all_gather", 50e9, 16, 15 / 16),
        (FREE, "send", 50e9, 16, 1.0),  # one pair of neighbours shares one card
        (FREE, "send", 450e9, 8, 1.0),
        (Links(), "all_gather", 0, 8, 10e-6 + 7e-6),
        (Links(), "all_gather", 0, 4096, 10e-6 + 512 * 5e-6 + (4095 - 512) * 1e-6),
        (Links(), "all_reduce", 0, 4096, 10e-6 + 2 * (7e-6 + 9 * 5e-6)),  # along a tree
        (Links().by_gloo, "all_reduce", 0, 4, 50e-6 + 2 * 3 * 50e-6),  # in a ring
    ],
)
def test_by_hand(links, collective, size, world, seconds):
    assert links.seconds(collective, size, world) == pytest.approx(seconds, abs=1e-12)
