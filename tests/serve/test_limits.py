"""How often an address may ask."""

import pytest

from ccscale.serve import limits
from ccscale.serve.limits import Rate, RequestRefused


def test_so_many_a_second_of_each_address(monkeypatch):
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])

    def answered(address: str) -> bool:
        try:
            rate.take(address)
        except RequestRefused as refused:
            return (refused.status, refused.again) != (429, 1)
        return True

    assert [answered("a") for _ in range(3)] == [True, True, False]
    assert answered("b")
    now[0] = 0.25
    assert not answered("a")
    now[0] = 0.5
    assert [answered("a"), answered("a")] == [True, False]
    now[0] = 100
    assert [answered("a") for _ in range(3)] == [True, True, False]
    monkeypatch.setattr(limits, "MOST_ADDRESSES", 3)
    assert all(answered(f"{i}") for i in range(10))
    assert len(rate._left) == 3


def test_seldom_and_any_number():
    rate = Rate(0.1, lambda: 0.0)
    rate.take("a")
    with pytest.raises(RequestRefused) as refused:
        rate.take("a")
    assert refused.value.again == 10
    for _ in range(1_000):
        Rate(None).take("a")
