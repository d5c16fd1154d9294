"""The counter-based generator against its published vectors, and the independence of its numbers."""

import numpy as np
import pytest

from ccscale.philox import philox4x32, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers_of_random123(counter, key, expected):
    counter, key, expected = (
        np.array([int(word, 16) for word in words.split()], dtype=np.uint32)
        for words in (counter, key, expected)
    )
    result = philox4x32(np.broadcast_to(counter, (2, 3, 4)), key)
    assert result.dtype == np.uint32
    np.testing.assert_array_equal(result, np.broadcast_to(expected, (2, 3, 4)))


def test_a_sample_has_the_same_numbers_in_every_batch():
    samples = np.array([5, 2**40 + 5, 0, 17], dtype=np.int64)
    together = uniforms(3, 9, samples, 1, 10)
    assert together.shape == (4, 10)
    for row, sample in zip(together, samples, strict=True):
        np.testing.assert_array_equal(uniforms(3, 9, np.array([sample]), 1, 10)[0], row)
    np.testing.assert_array_equal(uniforms(3, 9, samples[::-1], 1, 3), together[::-1, :3])


def test_each_part_of_the_address_changes_the_numbers():
    base = {"seed": 1, "epoch": 2, "samples": np.array([3]), "view": 0, "count": 8}
    changes = [
        {},
        {"seed": 2},
        {"epoch": 3},
        {"samples": np.array([4])},
        {"samples": np.array([3 + 2**32])},
        {"view": 1},
        {"seed": 2, "epoch": 1},
        {"seed": 2**32 - 1},
    ]
    rows = np.concatenate([uniforms(**(base | change)) for change in changes])
    assert len(np.unique(rows)) == rows.size  # 64 numbers of 32 bits: no two are the same


def test_numbers_are_uniform_and_uncorrelated():
    numbers = uniforms(0, 0, np.arange(20_000), 0, 8)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # Standard errors: mean .289 / sqrt(20,000) = .002, correlation 1 / sqrt(20,000) = .007; bounds at 5 of them.
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(numbers, rowvar=False), np.eye(8), atol=0.035)
    next_epoch = uniforms(0, 1, np.arange(20_000), 0, 1)[:, 0]
    assert abs(np.corrcoef(numbers[:, 0], next_epoch)[0, 1]) < 0.035
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.035


def test_no_samples_no_numbers():
    assert uniforms(0, 0, np.array([], dtype=np.int64), 0, 5).shape == (0, 5)


@pytest.mark.parametrize("wrong", [{"seed": 2**32}, {"epoch": -1}, {"view": 2**32}])
def test_what_needs_more_than_32_bits_is_refused(wrong):
    arguments = {"seed": 0, "epoch": 0, "view": 0} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        uniforms(samples=np.array([0]), count=1, **arguments)
