"""Mini-clusters: images of a batch in groups of two or so that lie next to each other, by spherical k-means.

A centre is never formed. With the cosines G of the images, and S_c the sum of its rows of the images in group c,
the cosine of image i with the centre of c, which is the sum of its images brought to length 1, is

    S_ci / sqrt(sum of S_cj over the images j in c)

so that a pass adds up a matrix of M x M numbers. They are the same on any number of ranks, which all find those of
the global batch: the first centres are images that the seed and the step choose, the passes are of a fixed number,
and no order of additions changes the sums.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ccscale.device import send
from ccscale.train.boost.means import in_units, sums_by, sums_of_whole

SHARE = 0.5
"""Mini-clusters for each image: CDC has 500 in a batch of 1,000."""
MOST = 1024
"""Images that are clustered together: work grows by the square of it. Larger batches are taken in parts."""
PASSES = 5


def mini_clusters(features: Tensor, seed: int, step: int) -> tuple[Tensor, int]:
    """Group the images of a global batch.

    Parameters
    ----------
    features
        (M, D).
    seed, step
        What the first centres follow from.

    Returns
    -------
    groups : Tensor
        (M,) int64: the mini-cluster of each image.
    count : int
        Of the mini-clusters, of which some may be empty.
    """
    random, groups, count = np.random.default_rng((seed, step)), [], 0
    for part in F.normalize(features, dim=1).tensor_split(math.ceil(len(features) / MOST)):
        own = math.ceil(SHARE * len(part))
        first = np.sort(random.choice(len(part), own, replace=False))
        groups.append(_k_means(part @ part.T, send(torch.from_numpy(first), part.device)) + count)
        count += own
    return torch.cat(groups), count


def _k_means(cosines: Tensor, first: Tensor) -> Tensor:
    """Return the nearest centre (m,) of each of m images by their cosines (m, m), from images that are centres."""
    to_centres, whole, count = cosines[first], in_units(cosines), len(first)
    for _ in range(PASSES):
        nearest = to_centres.argmax(dim=0)
        sums = sums_of_whole(nearest, whole, count)
        squares = sums_by(nearest, sums.gather(0, nearest[None]).T, count)  # of the sums' lengths; 0 of none
        lengths = squares.clamp_min(torch.finfo(squares.dtype).eps).sqrt().to(cosines.dtype)
        to_centres = torch.where(squares > 0, sums.to(cosines.dtype).div_(lengths), to_centres)
    return to_centres.argmax(dim=0)
