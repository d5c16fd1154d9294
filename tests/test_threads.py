"""Calls in threads: their order, and their failures."""

import pytest

from ccscale.threads import each


def test_each_raises_the_first_failure_and_keeps_the_order() -> None:
    assert each([lambda i=i: i * i for i in range(20)], 4) == [i * i for i in range(20)]  # type: ignore[misc]
    assert each([], 4) == []
    with pytest.raises(ZeroDivisionError):
        each([lambda: 1, lambda: 1 // 0, lambda: 2], 2)
