"""A run that changes its number of ranks on the way goes on as it was; tools/change_ranks.py in short."""

import json
import sys
from pathlib import Path

import change_ranks
import pytest

SMALL = ["--size", "16", "--batch", "16", "--clusters", "4"]

pytestmark = [pytest.mark.dist, pytest.mark.slow]


@pytest.mark.parametrize(
    ("cases", "leg"),
    [(["fp64:1"], 20), (["fp32:0", "fp32:1", "fp32:2"], 4)],
    ids=["in float64", "in float32"],
)
def test_two_ranks_one_four_and_two(
    shards: Path,
    cases: list[str],
    leg: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [option for case in cases for option in ("--case", case)]
    command = [str(shards), *SMALL, "--steps", str(leg), *options, "--no-alone", "--json"]
    monkeypatch.setattr(sys, "argv", [change_ranks.__file__, *command])
    code = change_ranks.main()
    legs = json.loads(capsys.readouterr().out)["legs"]
    assert code == 0, legs
    assert [(one["case"], one["ranks"]) for one in legs] == [
        (case, n) for case in cases for n in (2, 1, 4, 2)
    ]
    assert [(one["first"], one["last"]) for one in legs[:4]] == [
        (i * leg + 1, i * leg + leg) for i in range(4)
    ]
    for number, one in enumerate(legs):
        assert one["digests"]
        assert one["worst"] <= (0 if number % 4 == 0 else {"fp64": 1e-8, "fp32": 1e-3}[one["case"][:4]])
        assert one["converted"] == (number % 4 > 0 and not one["case"].endswith(":0"))
