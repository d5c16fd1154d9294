"""Mini-clusters: images of a batch in groups of two or so that lie next to each other, by k-means.

They are the same on any number of ranks, which all find those of the global batch: the first centres are images
that the seed and the step choose, the passes are of a fixed number, and no order of additions changes the means.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ccscale.device import send
from ccscale.features.lloyd import nearest_centres
from ccscale.train.boost.means import means_by

SHARE = 0.5
"""Mini-clusters for each image: CDC has 500 in a batch of 1,000."""
MOST = 1024
"""Images that are clustered together: work grows by the square of it. Larger batches are taken in parts."""
PASSES = 5


def mini_clusters(features: Tensor, seed: int, step: int) -> tuple[Tensor, int]:
    """Group the images of a global batch by spherical k-means.

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
        centres = part[send(torch.from_numpy(first), part.device)]
        for _ in range(PASSES):
            means, sizes = means_by(nearest_centres(part, centres), part, own)
            centres = torch.where(sizes[:, None] > 0, F.normalize(means, dim=1), centres)
        groups.append(nearest_centres(part, centres) + count)
        count += own
    return torch.cat(groups), count
