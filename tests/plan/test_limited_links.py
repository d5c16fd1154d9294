"""The simulated step against real ones, of two and four processes over links with a limit of their own."""

import pytest
from harness.steps import config_of
from limited_links import why_not
from limited_steps import compare

TOLERANCE = 0.25  # at limits where a step waits for the links as long as it computes, or longer


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize(("world", "zero", "rate"), [(2, 2, 5e7), (4, 0, 3e7)])
def test_a_step_takes_as_long_as_on_paper(world, zero, rate):
    if (reason := why_not()) is not None:
        pytest.skip(f"links cannot be limited here: {reason}")
    config = config_of("test_resnet", None, zero, precision="fp32", device="cpu")
    found = compare(config, world, [rate])
    assert found.real[0] > 1.5 * found.free
    assert found.paper[0] / found.free == pytest.approx(found.real[0] / found.free, rel=TOLERANCE)
