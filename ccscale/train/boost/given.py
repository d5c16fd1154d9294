"""Labels given by the user (`stages.boost.labels`), as lasting labels of a run's images.

Classes are matched with clusters once, when all images have been assigned and before labels are trained on, by
the clusters of the labelled images: one-to-one, so that as many as possible are right; a cluster that is left
over gets its most common class. An image in a cluster of its class gets that cluster as label, another one the
cluster matched with its class, or none if the class has no cluster.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import Config
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import InputError
from ccscale.evaluate.contingency import Contingency
from ccscale.evaluate.given_labels import read_labels
from ccscale.evaluate.matching import many_to_one, one_to_one
from ccscale.evaluate.notes import strange_keys
from ccscale.features.store import Features


@dataclass(frozen=True)
class GivenClasses:
    """The classes of some images.

    Attributes
    ----------
    samples, classes
        (n,) int64: which samples of the data that are trained on, rising; their classes, counted from 0.
    """

    samples: Int64
    classes: Int64

    def among(self, images: int) -> "GivenClasses":
        """Return those of the first so many images."""
        count = int(np.searchsorted(self.samples, images))
        return GivenClasses(self.samples[:count], self.classes[:count])

    def clusters(self, found: Int64, k: int) -> Int64:
        """Return the clusters that the images are given.

        Parameters
        ----------
        found
            (images,): the cluster that each image is in; -1 where it was not looked at.
        k
            K.

        Returns
        -------
        ndarray
            (n,) int64; -1 for none.
        """
        own = found[self.samples]
        seen = own >= 0
        table = Contingency.of(own[seen], self.classes[seen], k)
        matched = one_to_one(table)
        stands_for = np.where(matched >= 0, matched, many_to_one(table))
        home = np.full(int(self.classes.max()) + 1, -1)
        home[matched[matched >= 0]] = np.flatnonzero(matched >= 0)
        return np.where(seen & (stands_for[own] == self.classes), own, home[self.classes])


def find_given(
    config: Config,
    manifest: Manifest,
    features: Features | None,
    retired: Collection[str] = (),
) -> GivenClasses | None:
    """Read the labels that a config names; on one rank. None where it names none, or the stage is not wanted.

    Shards that are `retired` have no images any more, though theirs are counted.

    Raises
    ------
    InputError
        If they cannot be read, or none of them is of an image that is trained on.
    """
    boost = config.stages.boost
    if boost.labels is None or not boost.epochs:
        return None
    given = read_labels(boost.labels)
    if features is not None:
        keys = features.keys.combine_chunks()
    else:
        keys = pa.array(_keys(manifest, config.data.splits, retired), pa.string())
    samples, places = given.find(keys)
    if not len(samples):
        raise InputError(
            f"none of the labels in {boost.labels} (stages.boost.labels) is of an image that is trained on; a key "
            f"is as '{keys[0].as_py()}', and the first label has '{given.keys[0].as_py()}'"
        )
    unknown = np.setdiff1d(np.arange(len(given.classes)), places)
    for sentence in strange_keys([given.keys[int(place)].as_py() for place in unknown]):
        dist.say(f"note: {sentence}")
    order = np.argsort(samples, kind="stable")
    classes = np.unique(np.array(given.classes)[places[order]], return_inverse=True)[1]
    return GivenClasses(samples[order], classes.astype(np.int64))


def _keys(manifest: Manifest, splits: Sequence[str], retired: Collection[str]) -> Iterator[str | None]:
    """Yield the name of each sample; None of one that is not there any more."""
    for shard in manifest.select(splits):
        if shard.url in retired:
            yield from (None,) * shard.nsamples
        else:
            yield from read_index(manifest, shard).keys
