"""What goes into the page: JSON that no script can be left from, and arrays."""

import base64
import json

import numpy as np
import pytest

from ccscale.report.encoding import rounded, to_base64, to_json


@pytest.mark.parametrize(
    "text", ["</script><b>", "<!--<script>", "]]>&amp;", "a\u2028b\u2029c", "\ud800", "é 'x' \"y\""]
)
def test_json_cannot_leave_its_script(text):
    found = to_json({text: [text]})
    assert not set(found) & set("<>&")
    assert found.isascii()
    assert json.loads(found) == {text: [text]}


def test_json_has_no_numbers_that_browsers_refuse():
    assert [rounded(value) for value in (1 / 3, float("nan"), float("inf"), 0.0)] == [
        0.33333,
        None,
        None,
        0.0,
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(float("nan"))


def test_arrays_are_little_endian():
    expected = bytes([1, 0, 0, 0, 255, 255, 255, 255])
    for order in "<>":
        array = np.array([1, -1], dtype=f"{order}i4")
        assert base64.b64decode(to_base64(array)) == expected
