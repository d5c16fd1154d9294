"""``ccscale evaluate RUN --merge``: which clusters belong together, and how good every cut of the tree is.

    RUN/merge.json   {"step", "basis", "shards", "own", "features", "clusters", "sizes",
                      "merges": [{"a", "b", "similarity", "confusion", "score", "size"}, …],
                      "cuts": [{"clusters", "joined_at", figures …}, …]}
    RUN/merge.png    the dendrogram

``basis`` is that of the images from which the tree was computed (`basis.py`), ``shards`` their location, and
``own`` whether they are the run's. ``ccscale predict RUN --merged K`` uses the tree if it belongs to the same
network.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccscale import atomic, dist
from ccscale.array_types import Int64
from ccscale.draw.dendrogram import draw_dendrogram
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.basis import Basis
from ccscale.evaluate.information import SoftCounts
from ccscale.evaluate.linkage import MAX_CLUSTERS, LinkageSums, Merge, cut_sizes, cut_tree, link
from ccscale.evaluate.metrics import score_table
from ccscale.evaluate.stability import agreement
from ccscale.evaluate.tally import Tally
from ccscale.wording import class_name, counted

TREE, PICTURE = "merge.json", "merge.png"
AT_ONCE = 2**24  # soft assignments that are joined at a time


class LinkageTally:
    """Adds up, batch by batch, what the tree follows from.

    Parameters
    ----------
    k
        Number of clusters.
    width
        Of the features.
    features
        Which: ``backbone`` or ``instance``.

    Raises
    ------
    InputError
        If there are too many clusters.
    """

    def __init__(self, k: int, width: int, features: str, device: torch.device) -> None:
        if k > MAX_CLUSTERS:
            raise InputError(
                f"--merge holds K x K numbers: at most {MAX_CLUSTERS:,} clusters, this run has {k:,}"
            )
        self._backbone = features == "backbone"
        self._sizes = torch.zeros(k, dtype=torch.float64, device=device)
        self._features = torch.zeros((k, width), dtype=torch.float64, device=device)
        self._overlap = torch.zeros((k, k), dtype=torch.float64, device=device)

    @torch.inference_mode()
    def add(self, assigned: Assigned) -> None:
        """Add a batch."""
        good = torch.from_numpy(assigned.clusters >= 0).to(self._sizes.device)
        outputs = assigned.outputs
        h = (outputs.features if self._backbone else outputs.embeddings)[good].double()
        if self._backbone:
            h = torch.nn.functional.normalize(h)  # each image counts alike, as embeddings already do
        p = outputs.assignments[good].double()
        clusters = p.argmax(dim=1)
        self._sizes.index_add_(0, clusters, torch.ones_like(clusters, dtype=torch.float64))
        self._features.index_add_(0, clusters, h)
        self._overlap.addmm_(p.T, p)

    def sums(self) -> LinkageSums:
        """Return the sums over all ranks; all ranks call it together."""

        def total(tensor: Tensor) -> Any:
            return dist.sum_(tensor).cpu().numpy()

        return LinkageSums(
            total(self._sizes).round().astype(np.int64), total(self._features), total(self._overlap)
        )


def measure_cuts(merges: Sequence[Merge], tally: Tally, pairs: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Measure the cuts of a tree.

    Returns
    -------
    list of dict
        For each: ``clusters``; ``joined_at``, the score of the merge that made it (None: none did); ``agreement``,
        ``chance`` and ``stability`` of two views; ``information`` of the views' soft assignments, in nats, and
        its ``share`` of the most that so many clusters can have; where there are labels also ``acc``, ``purity``,
        ``nmi``, ``ari`` and ``f``.
    """
    leaves = len(merges) + 1
    labelled = len(tally.table.cells().counts) > 0
    rows = []
    soft = torch.from_numpy(pairs).flatten(0, 1)
    for k in cut_sizes(int((tally.sizes > 0).sum())):
        groups = cut_tree(merges, k)
        information = _information(soft, torch.from_numpy(groups), k)
        row: dict[str, Any] = {
            "clusters": k,
            "joined_at": merges[leaves - k - 1].score if k < leaves else None,
            **agreement(pairs, groups),
            "information": information,
            "share": information / math.log(k),
        }
        rows.append(row | score_table(tally.table.grouped(groups)) if labelled else row)
    return rows


def _information(soft: Tensor, groups: Tensor, k: int) -> float:
    """Return the information of (n, K) soft assignments whose clusters are joined to k groups, some at a time."""
    parts = [SoftCounts.of(soft.new_zeros(0, k))]
    for some in soft.split(max(1, AT_ONCE // soft.shape[1])):
        joined = some.new_zeros(len(some), k)
        parts.append(SoftCounts.of(joined.index_add_(1, groups, some)))
    return SoftCounts.join(parts).information


def write_tree(
    run: Path,
    basis: Basis,
    shards: str,
    own: bool,
    features: str,
    sums: LinkageSums,
    tally: Tally,
    pairs: NDArray[np.float32],
    classes: Sequence[str],
    advice: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Join the clusters, write ``merge.json`` and ``merge.png`` into a run's folder; return the first's content.

    Where there is advice on the number of clusters (`how_many.advise_run`), the picture shows its cut.
    """
    merges = link(sums)
    tree = {
        "step": basis.step,
        "basis": basis.as_json(),
        "shards": shards,
        "own": own,
        "features": features,
        "clusters": len(sums.sizes),
        "sizes": sums.sizes.tolist(),
        "merges": [{**asdict(merge), "score": merge.score} for merge in merges],
        "cuts": measure_cuts(merges, tally, pairs),
    }
    atomic.write_bytes(run / TREE, (json.dumps(tree) + "\n").encode())
    majority = tally.per_cluster().get("majority", [None] * len(sums.sizes))

    def describe(clusters: list[int]) -> str:
        images = int(sums.sizes[clusters].sum())
        if len(clusters) > 1:
            return f"{len(clusters):,} clusters, {counted(images, 'image')}"
        label = majority[clusters[0]]
        name = "" if label is None else f", most '{class_name(classes, label)}'"
        return f"{clusters[0]}: {counted(images, 'image')}{name}"

    made_of = f"{features} features, step {basis.step:,}"
    heading = f"{counted(len(sums.sizes), 'cluster')}, the most alike joined first ({made_of})"
    joined = np.array([(merge.a, merge.b) for merge in merges])
    cut = advice["clusters"] if advice is not None and advice["seen"] else None
    draw_dendrogram(
        run / PICTURE, heading, joined, np.array([merge.score for merge in merges]), describe, cut
    )
    return tree


@dataclass(frozen=True)
class Tree:
    """A run's clusters and how they are joined.

    Attributes
    ----------
    merges
        Of all clusters, in their order.
    notes
        A sentence where the tree is of other images than the run's.
    """

    merges: tuple[Merge, ...]
    notes: tuple[str, ...]

    def groups(self, k: int) -> Int64:
        """Return the group of each cluster where the tree is cut to k groups.

        Raises
        ------
        InputError
            If it has fewer clusters.
        """
        leaves = len(self.merges) + 1
        if not 1 <= k <= leaves:
            raise InputError(
                f"--merged {k}: this run's {counted(leaves, 'cluster')} can be merged to 1 to {leaves}"
            )
        return cut_tree(self.merges, k)


def read_tree(run: Path, step: int, weights: str, head: int = 0) -> Tree:
    """Read the tree of a run's clusters.

    Parameters
    ----------
    run
        The run's folder.
    step, weights
        Of the checkpoint, and the SHA-256 of its network (`basis.weights_of`): the tree is to be of the same.
    head
        The cluster head whose clusters are merged.

    Raises
    ------
    InputError
        If there is no tree, or it is of another network.
    """
    path = run / TREE
    again = f"run `ccscale evaluate {run} --merge`"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        made, basis, shards = tree["step"], Basis.parse(tree.get("basis")), tree.get("shards")
        merges = tuple(
            Merge(*(merge[name] for name in ("a", "b", "similarity", "confusion", "size")))
            for merge in tree["merges"]
        )
    except FileNotFoundError:
        raise InputError(f"there is no {path}; {again} first") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {again} to recreate it") from None
    if made != step:
        raise InputError(f"{path} is of step {made}, but the checkpoint is of step {step}; {again} again")
    if basis is None:
        raise InputError(f"{path} does not say which network it belongs to; {again} again")
    if basis.weights != weights:
        raise InputError(f"{path} is of another network of step {made} than the checkpoint; {again} again")
    if basis.head != head:
        raise InputError(f"{path} is of the clusters of head {basis.head}, not of head {head}; {again} again")
    other = f"the clusters are merged by a tree of the images of {shards} ({', '.join(basis.splits)})"
    return Tree(merges, () if tree["own"] else (other,))
