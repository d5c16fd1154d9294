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
    """Changes of cluster names.

    Attributes
    ----------
    names, into
        By cluster: the new name ("" removes all its entries); the cluster to join it to.
    junk
        Clusters to mark as junk.
    file
        A file of names that replaces the current ones; the other changes are applied to it.
    anyway
        Accept a file that is for another network's clusters.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    into: Mapping[int, int] = field(default_factory=dict)
    junk: Sequence[int] = ()
    file: Path | None = None
    anyway: bool = False

    def without_file(self) -> "NameChanges":
        """Return the changes without the file."""
        return replace(self, file=None)

    def __bool__(self) -> bool:
        return bool(self.names or self.into or self.junk or self.file)


@dataclass(frozen=True)
class ResolvedNames:
    """The names of clusters, from all sources.

    Attributes
    ----------
    clusters
        Number of clusters.
    by_hand
        Names set by people, which take precedence.
    by_labels
        Names from given labels.
    ids
        Ids of living clusters; None for the clusters of a network.
    """

    clusters: int
    by_hand: ClusterNames | None = None
    by_labels: Names | None = None
    ids: Sequence[int] | None = None

    @property
    def names(self) -> tuple[str | None, ...] | None:
        """The name of each cluster; None if none has one."""
        known = None if self.by_labels is None else self.by_labels.names
        if self.by_hand is None or not self.by_hand.clusters:
            return known
        return tuple(self.by_hand.of(cluster, known) for cluster in range(self.clusters))

    def by_number(self) -> dict[int, str | None]:
        """Return the name of each cluster, by number or id."""
        names = self.names or (None,) * self.clusters
        return {one: names[one] for one in (range(self.clusters) if self.ids is None else self.ids)}


def resolve_names(folder: Path, weights: str, head: int, clusters: int) -> ResolvedNames:
    """Load the names of a network's clusters from a folder.

    Parameters
    ----------
    folder
        A run or an exported network.
    weights, head, clusters
        Hash of the network, serving head, its number of clusters.
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
    """Change the names of a run's clusters; return the names afterwards.

    Parameters
    ----------
    run
        The run's folder.
    changes
        The changes; none to only read the names.
    clusters
        K, if the run has heads for several; default the first.

    Raises
    ------
    InputError
        If it is not a run, has no checkpoint, or the changes are inconsistent or name unknown clusters.
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
    """Return names with changes applied.

    Raises
    ------
    InputError
        If they name unknown clusters or contradict each other.
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
