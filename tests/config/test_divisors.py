"""Numbers that divide another."""

from hypothesis import given
from hypothesis import strategies as st

from ccscale.config import MAX_LANES
from ccscale.config.divisors import divisors, largest_divisor, nearest_divisors


@given(st.integers(1, 5000), st.integers(1, 6000))
def test_divisors(number, wanted):
    known = [d for d in range(1, number + 1) if number % d == 0]
    assert divisors(number) == known
    assert largest_divisor(number, MAX_LANES) == max(d for d in known if d <= MAX_LANES)
    near = nearest_divisors(number, wanted)
    assert near == sorted(set(near))
    assert set(near) <= set(known)
    assert not [d for d in known if near[0] < d < near[-1]]
    assert near[0] <= wanted
    assert near[-1] >= wanted or near[-1] == number
