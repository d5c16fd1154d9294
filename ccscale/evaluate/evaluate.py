"""``ccscale evaluate RUN``: the clusters of a run, measured.

Of the run's own data it leaves in its folder

    assignments.parquet   a row a sample (`table.py`)      features.npz   of a sample of them (`sample.py`)
    evaluation.json       all figures, also per cluster

and with --merge, of whatever data, merge.json and merge.png (`merge.py`). Each carries its `basis.Basis`.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccscale import atomic, dist
from ccscale.checkpoint.lock import FolderLock
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate import notes
from ccscale.evaluate.assign import Assigned, assign
from ccscale.evaluate.basis import KEY, Basis
from ccscale.evaluate.collapse import judge
from ccscale.evaluate.merge import PICTURE, Summing, write_tree
from ccscale.evaluate.metrics import scores
from ccscale.evaluate.parts import Parts
from ccscale.evaluate.pieces import cut, deal
from ccscale.evaluate.probes import k_means, knn_accuracy
from ccscale.evaluate.sample import FILE, FeatureSample, Sampler, choose_rows, numbers_in_all
from ccscale.evaluate.session import Session, open_session, open_shards
from ccscale.evaluate.stability import view_pairs
from ccscale.evaluate.tally import Tally

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
    device: str = "auto",
    workers: int | None = None,
    checkpoint: str = "last",
) -> dict[str, Any] | None:
    """Measure the clusters that a run's newest checkpoint makes of a data set; all ranks call it together.

    Parameters
    ----------
    run
        The run's folder.
    shards
        Another data set than the run's.
    splits
        By default those of the config for the run's data, all of another data set.
    probe
        Where there are labels, also score k-means on the features, and nearest neighbours.
    neighbours
        The split that the nearest neighbours are looked for in; by default among the images themselves.
    merge
        Also join the clusters bottom-up, by these features: ``backbone`` or ``instance``.
    device, workers
        As in the config.
    checkpoint
        Which one; see `checkpoint.choose`.

    Returns
    -------
    dict or None
        On rank 0: ``step``, ``basis`` (see `basis.Basis`), ``shards``, ``splits``, ``classes`` (names of the
        labels), ``labels`` (labels that the manifest counts), ``notes`` (sentences about the data), the figures of
        `Tally.summary`, ``stability`` with those of `ViewPairs.agreement`, ``warnings`` (sentences about the
        clusters), ``undecodable`` (lines with key and reason), ``per_cluster`` (columns of `Tally.per_cluster`);
        where there are labels ``confusion`` (``cluster``, ``label``, ``count`` of the cells that are not empty,
        where these are not too many) and, of the probes, ``k_means`` and ``k_means_instance`` (scores), ``knn``
        (``acc``) and ``probed`` (number of images); with `merge` ``cuts`` (see `merge.look`) and ``dendrogram``,
        the picture's path. None elsewhere.

    Raises
    ------
    InputError
        If the run or the data are not there, or another process writes the run.
    """
    own = shards is None
    with FolderLock(Path(run)) as lock:
        with open_session(run, device, workers, checkpoint) as session:
            if own or merge is not None:
                dist.on_rank_zero(lock.take)
            if own and splits is None:
                splits = session.config.evaluated_splits
            place = session.config.data.shards if shards is None else shards
            manifest, splits = open_shards(place, splits)
            evaluation = Evaluation(session, manifest, splits, own, lock)
            evaluation.measure(probe, neighbours, merge)
            first = dist.rank() == 0
        # The ranks have parted: none waits for the first while it looks at what was found.
        return evaluation.finish() if first else None


@dataclass
class Pass:
    """What a pass over some splits finds, on rank 0."""

    tally: Tally
    sample: FeatureSample
    undecodable: list[str]


class Evaluation:
    """One evaluation; all ranks make it together, up to `finish`."""

    def __init__(
        self, session: Session, manifest: Manifest, splits: tuple[str, ...], own: bool, lock: FolderLock
    ) -> None:
        self.session, self.manifest, self.splits, self.own, self.lock = session, manifest, splits, own, lock
        self.folder = session.config.run_folder
        self.k = session.config.model.clusters
        self.pieces = cut(manifest.select(splits))
        self.basis = dist.on_rank_zero(lambda: Basis.of(session.checkpoint, manifest, splits))
        self.parts = Parts(self.folder / f"{TABLE}.parts", self.basis.as_json(), labels=True)

    def measure(self, probe: bool, neighbours: str | None, merge: str | None) -> None:
        """Assign all samples, two views of some, and the neighbours that are looked for in another split."""
        session = self.session
        if neighbours is not None:
            dist.on_rank_zero(lambda: self.manifest.check_files([neighbours]))
        self.probe, self.merge, self.neighbours = probe, merge, neighbours
        summing = None
        if merge is not None:
            summing = Summing(self.k, session.width(merge), merge, session.device)
        self.found = self._pass(self.splits, summing, table=self.own)
        self.bank: Pass | None = None
        if probe and neighbours is not None:
            self.bank = self.found if set(self.splits) == {neighbours} else self._pass([neighbours])
        self.sums = None if summing is None else summing.sums()
        self.pairs = view_pairs(session.network, self.manifest, self.splits, session.config)

    def finish(self) -> dict[str, Any]:
        """Write the files and return the figures; on rank 0 alone."""
        found, pairs, step = self.found, self.pairs, self.session.checkpoint.step
        assert found is not None
        assert pairs is not None
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
            "stability": pairs.agreement(),
        }
        result |= {
            "warnings": [finding.sentence for finding in judge(result)],
            "undecodable": found.undecodable,
            "per_cluster": found.tally.per_cluster(),
        }
        if result["labelled"] and len(cells.counts) <= CONFUSION_CELLS:
            columns = zip(("cluster", "label", "count"), cells, strict=True)
            result["confusion"] = {name: column.tolist() for name, column in columns}
        if result["labelled"] and self.probe:
            result |= self._probe(found.sample)
            if self.neighbours is not None and "probed" in result and "knn" not in result:
                result["notes"].append(notes.no_neighbours(self.neighbours))
        self.lock.check()
        if self.merge is not None and self.sums is not None:
            made_of = self.basis, self.manifest.root, self.own
            classes = self.manifest.classes
            tree = write_tree(self.folder, *made_of, self.merge, self.sums, found.tally, pairs, classes)
            result |= {"cuts": tree["cuts"], "dendrogram": str(self.folder / PICTURE)}
        if self.own:
            self.parts.join(self.pieces, self.folder / TABLE, {KEY: self.basis.to_bytes()})
            found.sample.save(self.folder / FILE, self.basis)
            atomic.write_bytes(self.folder / FIGURES, (json.dumps(result) + "\n").encode())
        return result

    def _pass(
        self, splits: Sequence[str], summing: Summing | None = None, table: bool = False
    ) -> Pass | None:
        """Assign all samples of some splits."""
        session, shards = self.session, self.manifest.select(splits)
        mine = deal(cut(shards), (), dist.rank(), dist.world())
        widths = session.width("backbone"), session.width("instance")
        tally = Tally(self.k)
        sampler = Sampler(choose_rows(sum(shard.nsamples for shard in shards), session.config.seed), widths)
        undecodable: list[str] = []

        def batches() -> Iterator[Assigned]:
            spans = [piece.span for piece in mine]
            data = self.manifest, splits, session.reading
            for assigned in assign(session.network, *data, spans=spans, origins=table):
                assigned.count(tally)
                sampler.take(assigned)
                undecodable.extend(assigned.batch.reasons)
                if summing is not None:
                    summing.take(assigned)
                yield assigned

        if table:
            # What an evaluation that was killed has left has no sums: all is assigned anew.
            dist.on_rank_zero(lambda: shutil.rmtree(self.parts.folder, ignore_errors=True))
            dist.on_rank_zero(self.parts.begin)
            dist.together(lambda: self.parts.write(mine, batches()))
        else:
            dist.together(lambda: [None for _ in batches()])
        gathered = dist.gather_objects(Pass(tally, sampler.sample(), undecodable))
        if gathered is None:
            return None
        return Pass(
            Tally.join([part.tally for part in gathered]),
            FeatureSample.join([part.sample for part in gathered]),
            [line for part in gathered for line in part.undecodable],
        )

    def _notes(self, tally: Tally) -> list[str]:
        cells = tally.table.cells()
        images, labelled = int(tally.sizes.sum()), int(cells.counts.sum())
        found = notes.labels(images, labelled, cells.classes.tolist(), self.manifest.classes)
        return found if self.own else [*self.session.notes(self.manifest), *found]

    def _probe(self, sample: FeatureSample) -> dict[str, Any]:
        """Score the features against the labels; nothing where there are fewer labelled images than clusters."""
        sample = sample.of(sample.labels >= 0)
        if len(sample.rows) < self.k:
            return {}
        seed = self.session.config.seed
        found: dict[str, Any] = {
            name: scores(k_means(features, self.k, seed), sample.labels, self.k)
            for name, features in (("k_means", sample.backbone), ("k_means_instance", sample.instance))
        }
        acc = self._neighbours(sample)
        return found | ({} if acc is None else {"knn": {"acc": acc}}) | {"probed": len(sample.rows)}

    def _neighbours(self, sample: FeatureSample) -> float | None:
        """Return what nearest neighbours tell of labelled images; None where none of them has a label."""
        if self.bank is None or self.neighbours is None:
            return knn_accuracy(sample.backbone, sample.labels)
        bank = self.bank.sample.of(self.bank.sample.labels >= 0)
        return knn_accuracy(
            sample.backbone,
            sample.labels,
            bank.backbone,
            bank.labels,
            images=numbers_in_all(self.manifest, self.splits, sample.rows),
            bank_images=numbers_in_all(self.manifest, [self.neighbours], bank.rows),
        )
