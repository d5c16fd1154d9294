"""``ccscale evaluate RUN`` measures the clusters of a run.

For the run's own data it writes to the run's folder

    assignments.parquet   a row a sample (`table.py`)      features.npz   of a subset (`feature_subset.py`)
    evaluation.json       all figures, also per cluster       sureness.npz   how sure it is (`reliability.py`)

with --merge, of whatever data, merge.json and merge.png (`merge_tree.py`), with --how-many how-many.json and .png
(`how_many.py`). Each carries its `basis.Basis`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccscale import atomic, dist
from ccscale.checkpoint.commit import note_heads
from ccscale.checkpoint.lock import FolderLock
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import InputError
from ccscale.evaluate import notes
from ccscale.evaluate.basis import KEY, Basis
from ccscale.evaluate.collapse import find_problems
from ccscale.evaluate.feature_subset import FILE, FeatureSubset, numbers_in_all
from ccscale.evaluate.given_labels import GivenLabels, read_labels
from ccscale.evaluate.head_kappas import head_kappas
from ccscale.evaluate.heads import Choice, choose_heads, of_heads, serving_head
from ccscale.evaluate.how_many import advise_run, read_advice
from ccscale.evaluate.matching import one_to_one
from ccscale.evaluate.merge_tree import PICTURE, LinkageTally, write_tree
from ccscale.evaluate.opened_run import OpenedRun, open_own_data, open_run, open_shards
from ccscale.evaluate.parts import parts_of
from ccscale.evaluate.parts_folder import PartsFolder
from ccscale.evaluate.passes import Pass, assign_all
from ccscale.evaluate.probes import score_features
from ccscale.evaluate.reliability_evaluation import ReliabilityEvaluation
from ccscale.evaluate.stability import agreement, view_pairs
from ccscale.evaluate.tally import Tally
from ccscale.features.store import Features

TABLE = "assignments.parquet"
FIGURES = "evaluation.json"
CONFUSION_CELLS = 100_000  # of the confusion matrix that the figures hold


def evaluate_run(
    run: str | Path,
    shards: str | None = None,
    splits: Sequence[str] | None = None,
    *,
    probe: bool = True,
    neighbours: str | None = None,
    merge: str | None = None,
    how_many: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    checkpoint: str = "last",
    clusters: int | None = None,
    labels: str | Path | None = None,
) -> dict[str, Any] | None:
    """Evaluate the clusters of a run on a data set. All ranks call it together.

    Parameters
    ----------
    run : str or Path
        The run's folder.
    shards : str, optional
        Evaluate on this data set instead of the run's.
    splits : sequence of str, optional
        Default: for the run's own data those in the config, for another data set all.
    probe : bool, default True
        If there are labels, also score k-means and nearest neighbours on the features.
    neighbours : str, optional
        Split to search for nearest neighbours. Default: the evaluated images themselves.
    merge : str, optional
        Also merge the clusters bottom-up, using these features: ``backbone`` or ``instance``.
    how_many : str, optional
        Also estimate the number of clusters, from these features: ``backbone`` or ``instance``.
    device : str, default "auto"
        See ``train.device``.
    workers : int, optional
        See ``data.workers``.
    checkpoint : str, default "last"
        Which checkpoint to use; see `checkpoint.choose`.
    clusters : int, optional
        K, for a run with heads for several; default the first.
    labels : str or Path, optional
        A few labels of the run's own images, used to name clusters and calibrate confidences: a .csv or .parquet
        file with the columns ``key`` and ``class``.

    Returns
    -------
    dict or None
        On rank 0: ``step``, ``basis`` (see `basis.Basis`), ``shards``, ``splits``, ``classes`` (names of the
        labels), ``labels`` (labels that the manifest counts), ``notes`` (sentences about the data), the figures of
        `Tally.summary`, ``stability`` with those of `stability.agreement`, ``warnings`` (sentences about the
        clusters), ``undecodable`` (lines with key and reason), ``per_cluster`` (columns of `Tally.per_cluster`);
        where there are labels ``confusion`` (``cluster``, ``label``, ``count`` of the cells that are not empty,
        where these are not too many) and, of the probes, ``k_means`` and ``k_means_instance`` (scores), ``knn``
        (``acc``) and ``probed`` (number of images); of several cluster heads ``head``, the one that serves, and
        ``heads``, a row of each (see `heads.HeadTallies.table`); with `merge` ``cuts`` (see
        `merge_tree.measure_cuts`) and ``dendrogram``, the picture's path; with `how_many` ``how_many`` (see
        `how_many.advise_run`), which stays in the figures as long as it is of the same; and what
        `ReliabilityEvaluation.keep`, of other images `ReliabilityEvaluation.measure` tells. None elsewhere.

    Raises
    ------
    InputError
        If the run or the data do not exist, or another process is writing to the run.
    """
    own = shards is None
    if labels is not None and (shards or splits):
        raise InputError(
            "--labels must be for the images that the run is evaluated on: leave out --shards and --split"
        )
    with FolderLock(Path(run)) as lock:
        with open_run(run, device, workers, checkpoint, heads_alone=own, clusters=clusters) as opened:
            if own or merge is not None:
                dist.on_rank_zero(lock.take)
            features = None
            if shards is None:
                manifest, splits, features = open_own_data(opened.config, splits)
            else:
                manifest, splits = open_shards(shards, splits)
            if probe and neighbours is not None:
                bank = [neighbours]
                dist.on_rank_zero(lambda: manifest.select(bank))  # or there is no such split
            given = None if labels is None else dist.on_rank_zero(lambda: read_labels(labels))
            evaluation = Evaluation(opened, manifest, splits, own, lock, features, clusters, given)
            evaluation.measure(probe, neighbours, merge)
            first = dist.rank() == 0
        # The ranks have parted: none waits for the first while it looks at what was found.
        return evaluation.finish(how_many) if first else None


class Evaluation:
    """One evaluation; all ranks make it together, up to `finish`."""

    def __init__(
        self,
        opened: OpenedRun,
        manifest: Manifest,
        splits: tuple[str, ...],
        own: bool,
        lock: FolderLock,
        features: Features | None = None,
        clusters: int | None = None,
        given: GivenLabels | None = None,
    ) -> None:
        self.features, self.given = features, given
        self.opened, self.manifest, self.splits, self.own, self.lock = opened, manifest, splits, own, lock
        self.folder = opened.config.run_folder
        self.pairs = view_pairs(opened.network, manifest, splits, opened.config, features=features)
        several = len(opened.config.model.head_clusters) > 1
        self.kappas = head_kappas(opened.network, features, opened.config) if several else None
        found = dist.on_rank_zero(lambda: self._choose(clusters))
        self.choice: Choice | None = None if found is None else found[0]
        head = 0 if found is None else found[1]
        opened.network.serve(head)
        self.k = opened.network.k
        self.parts = parts_of(manifest.select(splits))
        self.basis = dist.on_rank_zero(lambda: Basis.of(opened.checkpoint, manifest, splits, head))
        self.table = PartsFolder(self.folder / f"{TABLE}.parts", self.basis.as_json(), labels=True)

    def measure(self, probe: bool, neighbours: str | None, merge: str | None) -> None:
        """Assign all samples, two views of some, and the neighbours that are searched for in another split."""
        opened = self.opened
        if neighbours is not None and self.features is None:
            dist.on_rank_zero(lambda: self.manifest.check_files([neighbours]))
        self.probe, self.merge, self.neighbours = probe, merge, neighbours
        linkage = None
        if merge is not None:
            linkage = LinkageTally(self.k, opened.width(merge), merge, opened.network.device)
        data = opened, self.manifest, self.features
        self.found = assign_all(*data, self.splits, self.table if self.own else None, linkage)
        self.bank: Pass | None = None
        if probe and neighbours is not None:
            same = set(self.splits) == {neighbours}
            self.bank = self.found if same else assign_all(*data, [neighbours])
        self.sums = None if linkage is None else linkage.sums()

    def finish(self, how_many: str | None) -> dict[str, Any]:
        """Write the files and return the figures, with advice on the number of clusters; on rank 0 alone."""
        found, opened = self.found, self.opened
        step, network = opened.checkpoint.step, opened.network
        assert found is not None
        assert self.pairs is not None
        pairs = of_heads(self.pairs, network.settings)[network.serving]
        cells = found.tally.table.cells()
        result = {
            "step": step,
            "basis": self.basis.as_json(),
            "shards": self.manifest.root,
            "splits": list(self.splits),
            "classes": list(self.manifest.classes),
            "labels": sum(self.manifest.labelled.get(split, 0) for split in self.splits),
            "notes": self._notes(found.tally),
            **found.tally.summary(),
            "stability": agreement(pairs) | ({} if self.features is None else {"of": opened.config.pairs.of}),
        }
        result |= {
            "warnings": [finding.sentence for finding in find_problems(result)],
            "undecodable": found.undecodable,
            "per_cluster": found.tally.per_cluster(),
        }
        if self.choice is not None:
            result |= {"head": network.serving, "heads": found.heads.table(self.choice, network.serving)}
        if result["labelled"] and len(cells.counts) <= CONFUSION_CELLS:
            columns = zip(("cluster", "label", "count"), cells, strict=True)
            result["confusion"] = {name: column.tolist() for name, column in columns}
        if result["labelled"] and self.probe:
            result |= self._probe(found)
            if self.neighbours is not None and "probed" in result and "knn" not in result:
                result["notes"].append(notes.no_neighbours(self.neighbours))
        self.lock.check()
        result |= self._advise(how_many, found.subset, result.get("heads", ()))
        if self.merge is not None and self.sums is not None:
            tree = write_tree(
                self.folder,
                self.basis,
                self.manifest.root,
                self.own,
                self.merge,
                self.sums,
                found.tally,
                pairs,
                self.manifest.classes,
                advice=result.get("how_many"),
            )
            result |= {"cuts": tree["cuts"], "dendrogram": str(self.folder / PICTURE)}
        if self.own:
            self.table.join(self.parts, self.folder / TABLE, {KEY: self.basis.to_bytes()})
            found.subset.save(self.folder / FILE, self.basis)
        result |= self._answer(found, pairs)
        if "given" in result:
            result["notes"] += notes.strange_keys(result["given"]["unknown"])
        if self.own:
            atomic.write_bytes(self.folder / FIGURES, (json.dumps(result) + "\n").encode())
        return result

    def _probe(self, found: Pass) -> dict[str, Any]:
        """Score the features of the labelled images."""
        bank = None
        if self.bank is not None and self.neighbours is not None:
            bank = self._labelled(self.bank, [self.neighbours])
        images = self._labelled(found, self.splits)
        return score_features(images, self.k, self.opened.config.seed, bank)

    def _advise(
        self, how_many: str | None, subset: FeatureSubset, heads: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return advice on the number of clusters: new if it is requested, else what there is of the same."""
        if how_many is None:
            told = read_advice(self.folder, self.basis)
        else:
            rows = subset.backbone if how_many == "backbone" else subset.instance
            seed = self.opened.config.seed
            told = advise_run(self.folder, self.basis, how_many, rows, seed, heads)
        return {} if told is None else {"how_many": told}

    def _choose(self, clusters: int | None) -> tuple[Choice, int] | None:
        """Choose the heads that serve, where there are several, and note them; on rank 0."""
        model, made = self.opened.config.model, self.opened.checkpoint
        if len(model.head_clusters) == 1:
            return None
        assert self.pairs is not None
        choice, chosen = choose_heads(self.pairs, self.opened.config, self.kappas), made.heads
        # By the images that the run is evaluated on: what others look like, or another split, changes nothing.
        if self.own and (self.splits == self.opened.config.evaluated_splits or not chosen):
            chosen = choice.heads
            if chosen != made.heads:
                self.lock.check()
                note_heads(made.path, chosen)
        return replace(choice, heads=chosen), serving_head(model, chosen, clusters)

    def _answer(self, found: Pass, pairs: NDArray[np.float32]) -> dict[str, Any]:
        """Tell how sure the run is; of its own images also keep that."""
        opened = self.opened
        matched = one_to_one(found.tally.table)
        answers = ReliabilityEvaluation(self.folder, opened.network, self.basis, found.subset, matched)
        if not self.own or self.splits != opened.config.evaluated_splits:
            return answers.measure()
        return answers.keep(pairs, self.folder / TABLE, self.given, self.features, opened.config.seed)

    def _notes(self, tally: Tally) -> list[str]:
        cells = tally.table.cells()
        images, labelled = int(tally.sizes.sum()), int(cells.counts.sum())
        found = notes.labels(images, labelled, cells.classes.tolist(), self.manifest.classes)
        return found if self.own else [*self.opened.notes(self.manifest), *found]

    def _labelled(self, found: Pass, splits: Sequence[str]) -> FeatureSubset:
        """Return a pass's labelled images, numbered among all of the data set."""
        labelled = found.subset.of(found.subset.labels >= 0)
        return replace(labelled, rows=numbers_in_all(self.manifest, splits, labelled.rows))
