"""Sums and means over groups of a batch's images that do not depend on the order of summation."""

import torch
from torch import Tensor

UNIT = 2.0**-36
"""What numbers are rounded to: 131,072 of a size up to 1 add up in doubles exactly, and fewer of larger ones."""


def sums_by(groups: Tensor, values: Tensor, count: int) -> Tensor:
    """Return the sum of each group's values.

    Parameters
    ----------
    groups
        (M,) int64: the group of each image.
    values
        (M, c), of a size of about 1.
    count
        Of the groups.

    Returns
    -------
    Tensor
        (count, c) float64.
    """
    return sums_of_whole(groups, in_units(values), count)


def in_units(values: Tensor) -> Tensor:
    """Return values (M, c) as whole numbers of `UNIT`, float64, whose sums are taken many times."""
    return (values.double() / UNIT).round_()


def sums_of_whole(groups: Tensor, whole: Tensor, count: int) -> Tensor:
    """Return what `sums_by` does, of values `in_units`."""
    return whole.new_zeros(count, whole.shape[1]).index_add_(0, groups, whole).mul_(UNIT)


def means_by(groups: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of each group's values (count, c), as `values` are, zeros for an empty one; and its size."""
    sizes = sums_by(groups, torch.ones_like(values[:, :1]), count)
    return (sums_by(groups, values, count) / sizes.clamp_min(1)).to(values.dtype), sizes[:, 0]
