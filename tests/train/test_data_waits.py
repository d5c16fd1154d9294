"""That a GPU waits for data is told once, after a start's first steps, with what comes and what could be taken."""

import pytest
import torch

from ccscale.train.data_waits import STEPS, DataWaits, rates

CUDA = torch.device("cuda")


def lines(seconds: float, waited: float, count: int = STEPS) -> list[dict[str, float]]:
    return [{"images_per_second": 100 / seconds, "data_wait": waited}] * count


def test_it_is_told_once_and_not_of_the_first_steps() -> None:
    waits = DataWaits(CUDA, 100, 4)
    assert [list(waits.news(lines(0.5, 0.4, count))) for count in (1, STEPS)] == [[], []]
    (sentence,) = waits.news(lines(0.5, 0.1))
    assert (
        "waits for data 20% of the time: 4 loader workers a rank give 200 images a second, and 250"
        in sentence
    )
    assert not list(waits.news(lines(0.5, 0.4)))


@pytest.mark.parametrize(("device", "waited"), [("cuda", 0.04), ("cpu", 0.4)])
def test_a_little_is_not_told_nor_what_shares_its_cores(device: str, waited: float) -> None:
    waits = DataWaits(torch.device(device), 100, 4)
    for _ in range(3):
        assert not list(waits.news(lines(0.5, waited)))


def test_rates() -> None:
    assert rates(100, 0.5, 0.01, 1) == "1 loader worker a rank gives the 200 images a second that are taken"
    assert rates(100, 0.5, 0.4, 0) == "the store gives 200 images a second, and 1,000 could be taken"
