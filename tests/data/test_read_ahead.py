"""What is read ahead of a lane is what it reads."""

import numpy as np
import pytest

from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.order.schedule import Schedule
from ccscale.data.read_ahead import _blocks


@pytest.mark.parametrize(("block", "lanes"), [(7, 6), (4, 6), (1, 2), (100, 3), (5, 24)])
def test_blocks_are_the_lanes_samples_in_their_order(block: int, lanes: int) -> None:
    single = Schedule((40, 31, 60, 20), 3, 24, lanes, piece=4, block=block)
    share, span, schedule = single.share, single.span, PhasedSchedule.single(single)
    for lane in range(lanes):
        both = np.concatenate([single.epoch(epoch).lane(lane, 0, span) for epoch in (0, 1)])
        for start, stop in ((0, 12), (1, 12), (3, 7), (5, 6), (8, 9)):
            blocks = list(_blocks(schedule, schedule.order, lane, start, stop))
            assert np.concatenate(blocks).tolist() == both[start * share : stop * share].tolist()
            assert all(1 <= len(part) <= max(block, share) for part in blocks)
            # The first batch needs no more than the first block; from the second block on, they are the schedule's.
            assert len(blocks[0]) >= share or len(blocks) == 1
            assert all(len(part) <= block for part in blocks[1:])
            ends = (start * share + np.cumsum([len(part) for part in blocks])) % span
            assert all(end % block == 0 or end == 0 for end in ends[1:-1])
