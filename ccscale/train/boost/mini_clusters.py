"""Mini-clusters: groups of about two similar images of a batch, found by spherical k-means.

Centres are never formed. With the cosines G of the images, and S_c the sum of the rows of G of the images in
group c, the cosine of image i with the centre of c (the normalized sum of its images) is

    S_ci / sqrt(sum of S_cj over the images j in c)

so each iteration sums a matrix of M x M numbers. The result is the same on any number of ranks, all of which
cluster the global batch: the initial centres are images selected by seed and step, the number of iterations is
fixed, and the sums do not depend on the order of summation.
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
