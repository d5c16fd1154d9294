"""The intakes of a run on growing shards, and the state of these shards since. Pure functions.

A run numbers its samples through all shards that it ever added, in the order of their arrival: these numbers
never change, whatever the manifest lists, nor do the random numbers and lasting labels that depend on them.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from ccscale.data.order.run import DataVersion
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import Shard
from ccscale.errors import InputError
from ccscale.wording import counted


class ListedShard(NamedTuple):
    """A shard, and the SHA-256 of its features when training on a store."""

    shard: Shard
    features: str | None = None

    @property
    def content(self) -> tuple[int, str]:
        """Values that must not change for a name."""
        return self.shard.nsamples, self.features or self.shard.sha256


class Intake(NamedTuple):
    """Shards added before a step; the first intake, at step 0, starts a run."""

    step: int
    sources: tuple[ListedShard, ...]
    retired: tuple[str, ...] = ()
    """Urls of shards that give no samples any more."""


@dataclass(frozen=True)
class Intakes:
    """All that a run has taken in.

    Attributes
    ----------
    intakes
        In their order.
    looked
        The last step at which the manifest was examined: what is there up to then is decided.
    """

    intakes: tuple[Intake, ...]
    looked: int = 0

    @cached_property
    def sources(self) -> tuple[ListedShard, ...]:
        """All shards that were ever taken in, in the order in which their samples are numbered."""
        return tuple(source for intake in self.intakes for source in intake.sources)

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The same as a manifest lists them."""
        return tuple(source.shard for source in self.sources)

    @cached_property
    def retired(self) -> frozenset[str]:
        """URLs of shards that give no more samples."""
        return frozenset(url for intake in self.intakes for url in intake.retired)

    @property
    def active(self) -> tuple[ListedShard, ...]:
        """The shards that give samples."""
        return tuple(source for source in self.sources if source.shard.url not in self.retired)

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        sizes = (sum(source.shard.nsamples for source in intake.sources) for intake in self.intakes)
        return tuple(accumulate(sizes))

    def samples(self, step: int) -> int:
        """Return how many samples have a number at a step, counted from 0."""
        return self._counts[bisect_right(self.intakes, step, key=lambda intake: intake.step) - 1]

    def are_of(self, manifest: Manifest, splits: Sequence[str]) -> bool:
        """Return whether the active shards are those of a manifest's splits."""
        own = {(shard.url, shard.nsamples, shard.sha256) for shard, _ in self.active}
        return own == {(shard.url, shard.nsamples, shard.sha256) for shard in manifest.select(splits)}

    def until(self, step: int) -> "Intakes":
        """Return the intakes that apply at a step, counted from 0."""
        return replace(self, intakes=tuple(intake for intake in self.intakes if intake.step <= step))

    def with_(self, intake: Intake) -> "Intakes":
        """Return the intakes with another one; those of later steps are dropped."""
        kept = tuple(each for each in self.intakes if each.step <= intake.step)
        return Intakes((*kept, intake), intake.step)

    def versions(self) -> list[DataVersion]:
        """Return the states of the data for the schedule."""
        numbers = {shard.url: number for number, shard in enumerate(self.shards)}
        found, count, retired = list[DataVersion](), 0, set[int]()
        for intake in self.intakes:
            count += len(intake.sources)
            retired |= {numbers[url] for url in intake.retired}
            found.append(DataVersion(intake.step, self.shards[:count], frozenset(retired)))
        return found

    def numbered(self, manifest: Manifest) -> Manifest:
        """Return a manifest with all of these shards, in their order, and the other splits of the one given."""
        return self._listing(manifest, self.shards)

    def current(self, manifest: Manifest) -> Manifest:
        """Return a manifest with the active shards, and the other splits of the one given."""
        return self._listing(manifest, [source.shard for source in self.active])

    def _listing(self, manifest: Manifest, shards: Sequence[Shard]) -> Manifest:
        splits = {shard.split for shard in self.shards}
        others = [shard for shard in manifest.shards if shard.split not in splits]
        if len(shards) + len(others) == len(manifest.shards) and tuple(shards) == manifest.select(splits):
            return manifest
        return replace(manifest, shards=(*shards, *others))


class Comparison(NamedTuple):
    """The listed shards, compared with the intakes."""

    new: tuple[ListedShard, ...]
    """In the order of the list."""
    vanished: tuple[str, ...]
    """Urls of shards that give samples and are not listed any more."""


def compare(intakes: Intakes, listed: Sequence[ListedShard], place: str) -> Comparison:
    """Compare the listed shards of the training splits with the intakes.

    Raises
    ------
    InputError
        If a shard has other contents than it had, or one that is new has those of another one.
    """
    now = {source.shard.url: source for source in listed}
    known = {source.shard.url: source for source in intakes.sources}
    contents = {source.content: source.shard.url for source in intakes.active if source.shard.nsamples}
    for url, source in known.items():
        if url in now and url not in intakes.retired and now[url].content != source.content:
            raise InputError(
                f"{place}: {url} has changed since the run took it in "
                f"({counted(source.shard.nsamples, 'image')} then, {now[url].shard.nsamples:,} now): "
                "shards that were trained on must not change. Restore it, and add new images as another "
                "shard"
            )
    new = tuple(source for url, source in now.items() if url not in known)
    for source in new:
        if source.content in contents:
            raise InputError(
                f"{place}: {source.shard.url} has the same contents as {contents[source.content]}, which "
                "the run already uses, and samples must not be duplicated: keep the shard's name, and "
                "remove the other one from the manifest"
            )
    return Comparison(
        new, tuple(source.shard.url for source in intakes.active if source.shard.url not in now)
    )
