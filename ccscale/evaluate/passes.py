"""A pass over some splits: assigns each sample once, over all ranks, and collects the tallies."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ccscale import dist
from ccscale.data.shards.manifest import Manifest
from ccscale.evaluate.assign import Assigned, assign
from ccscale.evaluate.feature_subset import FeatureSubset, SubsetTally, choose_rows
from ccscale.evaluate.heads import HeadTallies
from ccscale.evaluate.merge_tree import LinkageTally
from ccscale.evaluate.opened_run import OpenedRun
from ccscale.evaluate.parts import deal, parts_of
from ccscale.evaluate.parts_folder import PartsFolder
from ccscale.evaluate.tally import Tally
from ccscale.features.store import Features


@dataclass
class Pass:
    """What a pass over some splits finds, on rank 0."""

    tally: Tally
    subset: FeatureSubset
    undecodable: list[str]
    heads: HeadTallies


def assign_all(
    opened: OpenedRun,
    manifest: Manifest,
    features: Features | None,
    splits: Sequence[str],
    table: PartsFolder | None = None,
    linkage: LinkageTally | None = None,
) -> Pass | None:
    """Assign all samples of some splits; all ranks call it together.

    Parameters
    ----------
    opened
        The run, with the head that serves.
    manifest, features
        The data set; its features, where it is a store.
    splits
        Of the data set.
    table
        Where the assignments are written; nowhere by default.
    linkage
        Counts, too.

    Returns
    -------
    Pass or None
        On rank 0; None elsewhere.
    """
    model, shards = opened.config.model, manifest.select(splits)
    mine = deal(parts_of(shards), (), dist.rank(), dist.world())
    tally, heads = Tally(opened.network.k), HeadTallies(model)
    rows = choose_rows(sum(shard.nsamples for shard in shards), opened.config.seed)
    subset = SubsetTally(rows, (opened.width("backbone"), opened.width("instance")))
    store = None if features is None else features.at(splits)
    undecodable: list[str] = []

    def batches() -> Iterator[Assigned]:
        for assigned in assign(
            opened.network,
            manifest,
            splits,
            opened.config,
            workers=opened.workers,
            spans=[part.span for part in mine],
            origins=table is not None,
            features=store,
        ):
            assigned.count(tally)
            heads.add(assigned)
            subset.add(assigned)
            undecodable.extend(assigned.batch.reasons)
            if linkage is not None:
                linkage.add(assigned)
            yield assigned

    if table is not None:
        # What an evaluation that was killed has left has no sums: all is assigned anew.
        dist.on_rank_zero(lambda: shutil.rmtree(table.folder, ignore_errors=True))
        dist.on_rank_zero(table.begin)
        dist.together(lambda: table.write(mine, batches()))
    else:
        dist.together(lambda: [None for _ in batches()])
    gathered = dist.gather_objects(Pass(tally, subset.subset(), undecodable, heads))
    if gathered is None:
        return None
    return Pass(
        Tally.join([part.tally for part in gathered]),
        FeatureSubset.join([part.subset for part in gathered]),
        [line for part in gathered for line in part.undecodable],
        HeadTallies.join([part.heads for part in gathered], model),
    )
