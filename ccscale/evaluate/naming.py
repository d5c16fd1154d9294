"""``ccscale name RUN``: changes the names of a run's clusters, and looks names up for all other commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ccscale.errors import InputError
from ccscale.evaluate.basis import weights_of
from ccscale.evaluate.cluster_names import FILE, ClusterNames
from ccscale.evaluate.given_labels import Names
from ccscale.evaluate.heads import serving_head
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.evaluate.reliability import Reliability
from ccscale.progress import say


@dataclass(frozen=True)
class NameChanges:
    """What is to be said of clusters.

    Attributes
    ----------
    names, into
        By cluster: its name ("" takes back all that is said of it); the cluster that it is joined to.
    junk
        Clusters to be marked.
    file
        A file of names, instead of those that there are; what is said beside it comes on top.
    anyway
        Take its names even if they are of another network's clusters.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    into: Mapping[int, int] = field(default_factory=dict)
    junk: Sequence[int] = ()
    file: Path | None = None
    anyway: bool = False

    def without_file(self) -> "NameChanges":
        """Return them without the file."""
        return replace(self, file=None)

    def __bool__(self) -> bool:
        return bool(self.names or self.into or self.junk or self.file)


@dataclass(frozen=True)
class ResolvedNames:
    """What clusters are called.

    Attributes
    ----------
    clusters
        Their number.
    by_hand
        What people say of them; None for nothing.
    by_labels
        What given labels say; None if there are none.
    ids
        Those of living clusters, where these are meant.
    """

    clusters: int
    by_hand: ClusterNames | None = None
    by_labels: Names | None = None
    ids: Sequence[int] | None = None

    @property
    def names(self) -> tuple[str | None, ...] | None:
        """Of each cluster; None if none has a name."""
        known = None if self.by_labels is None else self.by_labels.names
        if self.by_hand is None or not self.by_hand.clusters:
            return known
        return tuple(self.by_hand.of(cluster, known) for cluster in range(self.clusters))

    def by_number(self) -> dict[int, str | None]:
        """Return the name of each cluster that there is, by its number or id."""
        names = self.names or (None,) * self.clusters
        return {one: names[one] for one in (range(self.clusters) if self.ids is None else self.ids)}


def resolve_names(folder: Path, weights: str, head: int, clusters: int) -> ResolvedNames:
    """Return what is said of a network's clusters in a folder: by hand, which counts first, and by labels.

    Parameters
    ----------
    folder
        Of a run or an exported network.
    weights, head, clusters
        The network's hash, the head that serves, its number of clusters.
    """
    reliability = Reliability.load(folder)
    by_labels = reliability.names if reliability is not None and reliability.is_of(weights, head) else None
    found = ClusterNames.load(folder)
    if found is not None and not found.is_of(weights, head):
        say(f"ignored the names in {folder / FILE}, which are for the clusters of another network")
        found = None
    if found is not None:
        found.check(clusters)
    return ResolvedNames(clusters, found, by_labels)


def name_run(run: str | Path, changes: NameChanges, clusters: int | None = None) -> ResolvedNames:
    """Say something of a run's clusters, or nothing; return what is said of them then.

    Parameters
    ----------
    run
        The run's folder.
    changes
        What is to be said.
    clusters
        K, of a run with heads of several; by default the first.

    Raises
    ------
    InputError
        If it is no run, has no checkpoint, or the changes contradict themselves or are of other clusters.
    """
    config, checkpoint = run_and_checkpoint(run)
    folder, weights = config.run_folder, weights_of(checkpoint)
    head = serving_head(config.model, checkpoint.heads, clusters)
    basis = {"step": checkpoint.step, "weights": weights, "head": head}
    found = resolve_names(folder, weights, head, config.model.head_clusters[head])
    if not changes:
        return found
    names = apply_changes(found.by_hand or ClusterNames(basis), basis, changes, found.clusters)
    names.save(folder)
    return ResolvedNames(found.clusters, names, found.by_labels)


def apply_changes(
    before: ClusterNames, basis: Mapping[str, object], changes: NameChanges, clusters: int
) -> ClusterNames:
    """Return names with changes.

    Raises
    ------
    InputError
        If they are of clusters that do not exist, or contradict themselves.
    """
    if changes.file is not None:
        given = ClusterNames.read(changes.file)
        same = [given.basis.get(name) == basis.get(name) for name in ("weights", "head", "lineage")]
        if not all(same) and not changes.anyway:
            step = f"step {given.basis['step']:,}" if "step" in given.basis else "another origin"
            raise InputError(
                f"the names in {changes.file} are for clusters of {step}, and the run has other clusters "
                "now; make a new report and name these, or give --anyway if they mean the same to you"
            )
        before = ClusterNames(basis, given.names, given.into, given.junk)
    for cluster, name in changes.names.items():
        before = before.named(cluster, name)
    for cluster, into in changes.into.items():
        before = before.joined(cluster, into)
    for cluster in changes.junk:
        before = before.marked(cluster)
    before.check(clusters)
    return before
