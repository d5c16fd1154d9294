"""The images of an update next to the known ones: images where there were none before, and their groups. Pure.

The distance of an image from known ones says little: an image of an unseen class may lie nearer to some of them
than they do to each other. Its neighbours say more. Of its `NEIGHBOURS` nearest neighbours, among known and new
images together, c are new. If the new images of its cluster were like the known ones, whatever their number, c
would be binomial, with the fraction of new images in the cluster, and the ratio of densities (c / n_new) / ((k −
c) / n_known) about 1. An image is *among new ones* if the probability of a c this large is at most `CHANCE` and
this ratio is at least `RATIO`.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ccscale.array_types import Float32, Int64
from ccscale.clusters.candidates import Candidate, find_candidates
from ccscale.clusters.reservoir import Pool, Reservoir, places
from ccscale.clusters.state import State, nearest_centre

NEIGHBOURS = 20
CHANCE, RATIO = 0.01, 3.0
MOST = 4_096  # new images that are examined
TILE = 1_024  # rows of cosines that are held at a time
SAMPLE = 2  # what a draw is for (see `reservoir`)


@dataclass(frozen=True)
class NewImages:
    """Known and new images, and the groups of new ones.

    Attributes
    ----------
    known, recent
        (m, q), (r, q): in the state's space.
    refs
        (r,) int64, ascending: the refs of the new images.
    least, even
        (C,) int64: how many of its neighbours must be new for an image nearest to that centre to be among new ones;
        for the ratio of densities to be 1.
    groups
        Of images among new ones.
    """

    known: Float32
    recent: Float32
    refs: Int64
    least: Int64
    even: Int64
    groups: tuple[Candidate, ...] = field(default=())

    @classmethod
    def of(
        cls,
        state: State,
        reservoir: Reservoir,
        pool: Pool,
        features: Float32,
        heads: Int64,
        refs: Int64,
        seed: int,
    ) -> "NewImages":
        """Look at the pool's images and at new ones, (n, D), (n,), (n,): some of the update's, by `sample`.

        A group's number, from 0, is its place in `groups`.
        """
        space = state.space
        every, first = np.unique(np.concatenate([pool.refs, refs]), return_index=True)
        features = np.concatenate([pool.features, features])[first]
        finite = np.isfinite(features.sum(axis=1, dtype=np.float32))
        every, first, features = every[finite], first[finite], features[finite]
        # No more than there are known ones: among many more, all would seem to be among new ones.
        chosen = sample(every, seed, max(len(reservoir), NEIGHBOURS))
        rows = space(features[chosen])  # put in order before: a row's last bits may depend on where it stands
        which, _ = nearest_centre(rows, state, np.concatenate([pool.heads, heads])[first][chosen])
        new = np.bincount(which[which >= 0], minlength=len(state.ids))
        of_known = np.array([(reservoir.ids == one).sum() for one in state.ids], np.int64)
        k = max(0, min(NEIGHBOURS, len(rows) + len(reservoir) - 1))
        least, even = _least(new, of_known, k)
        new_images = cls(space(reservoir.features), rows, every[chosen], least, even)
        among = np.flatnonzero(
            new_images.count(new_images.recent, new_images.refs) >= new_images.least[which]
        )
        groups = find_candidates(
            new_images.recent[among], new_images.known, reservoir.ids, state.tightness, seed
        )
        return replace(new_images, groups=tuple(groups))

    @property
    def centres(self) -> Float32:
        """Return the centres of the groups, (G, q)."""
        none = np.empty((0, self.known.shape[1]), np.float32)
        return np.stack([group.centre for group in self.groups]) if self.groups else none

    def count(self, rows: Float32, refs: Int64) -> Int64:
        """Return how many neighbours of each image, (n, q) and (n,), are new; none is a neighbour of itself."""
        both = np.concatenate([self.known, self.recent])
        k, found = min(NEIGHBOURS, len(both) - 1), np.zeros(len(rows), np.int64)
        if k < 1 or not len(self.recent):
            return found
        at = np.minimum(np.searchsorted(self.refs, refs), len(self.refs) - 1)
        own = np.where(self.refs[at] == refs, len(self.known) + at, -1)
        for start in range(0, len(rows), TILE):
            part = slice(start, start + TILE)
            cosines = rows[part] @ both.T
            there = np.flatnonzero(own[part] >= 0)
            cosines[there, own[part][there]] = -np.inf
            near = np.argpartition(cosines, -k, axis=1)[:, -k:]
            found[part] = (near >= len(self.known)).sum(axis=1)
        return found


def _least(new: Int64, known: Int64, k: int) -> tuple[Int64, Int64]:
    """Return `least` and `even` for k neighbours, given the numbers of new and known images of each cluster,
    (C,).
    """
    from scipy.stats import binom

    counts = np.arange(k + 1)
    share = (new / np.maximum(new + known, 1))[:, None]
    unlikely = binom.sf(counts - 1, k, share) <= CHANCE
    densities = counts * known[:, None], (k - counts) * new[:, None]
    enough = unlikely & (densities[0] >= RATIO * densities[1])
    least = np.where(enough.any(axis=1), enough.argmax(axis=1), k + 1)
    return least, (densities[0] >= densities[1]).argmax(axis=1)


def sample(refs: Int64, seed: int, most: int = MOST) -> Int64:
    """Return the numbers of the images (n,) that an update examines together, ascending."""
    order = np.argsort(places(refs, seed, SAMPLE), kind="stable")
    return np.sort(order[: min(most, MOST)])
