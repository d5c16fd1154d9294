"""``ccscale update --retrain``: trains the heads further on old and new images; clusters keep their ids.

::

    RUN/clusters/.update/remembered/   the feature store to train on: a bounded number of old and new images
    RUN/clusters/.update/begin/        the initial network, with a head that reproduces the old clusters
    RUN/clusters/.update/run/          an ordinary run with the run's own config
    RUN/clusters/.update/version/      the new version: the network, and the memory assigned by it

After a kill the finished ones of these remain, and the same command continues. If the run trains no cluster head
(its clusters are found by k-means), the new head reproduces the old clusters and the births and is not trained
further; the instance head is.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ccscale import checkpoint, dist
from ccscale.checkpoint.run import CONFIG
from ccscale.clusters.decisions import commit_change, counts_after
from ccscale.clusters.draft import Draft, begin_draft, disk_errors_as_fault, exclusive_writer, pending
from ccscale.clusters.lineage import Lineage, clusters_of, open_lineage
from ccscale.clusters.memory import Memory
from ccscale.clusters.migration import migrate
from ccscale.clusters.rehearsal import SPLIT, Rehearsal
from ccscale.clusters.retrained_network import first_network, keep_network
from ccscale.clusters.version import NETWORK
from ccscale.config import Config
from ccscale.config.file import load_config, parse_config
from ccscale.errors import InputError
from ccscale.evaluate.reliability import assign_features
from ccscale.features.graph import NEIGHBOURS
from ccscale.features.listing import Settings
from ccscale.features.neighbours import find_neighbours
from ccscale.features.store import open_features
from ccscale.model.export import load
from ccscale.preempt import StopRequest
from ccscale.progress import say
from ccscale.train.train import train_run
from ccscale.wording import counted

MAY = ("train", "loss")  # sections of the config that may be another one than the run's
REMEMBERED, BEGIN, TRAINED = "remembered", "begin", "run"


def retrain(
    run: str | Path,
    overrides: Sequence[str] = (),
    *,
    most_changed: float = 0.05,
    device: str = "auto",
    request: StopRequest | None = None,
) -> int | None:
    """Train the heads of living clusters further; all ranks call it together.

    Parameters
    ----------
    run : str or Path
        The run's folder.
    overrides : sequence of str, default ()
        ``key=value`` of the sections train and loss, over the run's own config.
    most_changed : float, default 0.05
        The share of the remembered images to which the new network may give another id, or none.
    device : str, default "auto"
        See ``train.device``.
    request : StopRequest, optional
        To stop training, if the caller already handles signals.

    Returns
    -------
    int or None
        The new version; None if it was asked to stop: the same command continues.

    Raises
    ------
    InputError
        If there are no living clusters, a key is none that a retraining may change, or more images than
        `most_changed` would have another id: then the version before stays the current one.
    Fault
        If it cannot be written.
    """
    request = request or StopRequest()
    asked = " ".join(("retrain", *overrides))
    before = pending(clusters_of(run))  # a kill may have left a version that is whole, which is ended now
    with exclusive_writer(run, device, request) as where:
        lineage = dist.on_rank_zero(lambda: open_lineage(run))
        ended = before is not None and (before.number, before.asked) == (lineage.number, asked)
        if dist.on_rank_zero(lambda: ended):
            return lineage.number
        dist.on_rank_zero(lambda: check_keys(overrides))
        draft = dist.on_rank_zero(lambda: begin_draft(lineage.folder, "retrain", asked))
        work = _Work(lineage, draft)
        config = dist.on_rank_zero(lambda: work.prepare(overrides, where))
        neighbours = min(NEIGHBOURS, dist.on_rank_zero(lambda: len(work.rows.refs)) - 1)
        find_neighbours(open_features(work.place / REMEMBERED), neighbours, device=where.type)
        dist.on_rank_zero(lambda: work.make_first(config, where))
        if not train_run(config, request).finished:
            return None
        return dist.on_rank_zero(lambda: work.commit(config, most_changed))


def check_keys(overrides: Sequence[str]) -> None:
    """Refuse keys that a retraining may not change.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    for one in overrides:
        section = one.partition(".")[0]
        if section not in MAY:
            why = "its number of clusters is that of the ids, its images are those that are remembered"
            if one.startswith(("model.freeze", "model.backbone")):
                why = "the features of all images would change: train another run"
            raise InputError(
                f"{one!r} cannot be set with --retrain, which trains heads on existing features: {why}. "
                "Keys of the sections train and loss can be set, for example train.epochs=20"
            )


def _trained(config: Config) -> Path:
    """Return the newest checkpoint's folder, which has the trained heads."""
    newest = checkpoint.choose(config.run_folder).newest
    assert newest is not None
    return newest.path


class _Work:
    """A retraining, as rank 0 prepares and ends it."""

    def __init__(self, lineage: Lineage, draft: Draft) -> None:
        self.lineage, self.draft, self.place = lineage, draft, draft.folder.parent
        self.rows: Rehearsal

    def prepare(self, overrides: Sequence[str], device: torch.device) -> Config:
        """Gather what is trained on; return the config."""
        lineage = self.lineage
        self.memory = Memory.of(lineage)
        self.rows = Rehearsal.of(lineage, self.memory)
        if len(self.rows.ids) < 2:
            raise InputError(f"fewer than two clusters of {lineage.run} have images left to train on")
        with disk_errors_as_fault(self.draft.clusters):
            self.rows.write(self.place / REMEMBERED, lineage.current.backbone)
        return self._config(overrides, lineage.current.backbone, device)

    def _config(self, overrides: Sequence[str], backbone: Settings, device: torch.device) -> Config:
        """Return the run's own config, on the features that are remembered, with a head of as many ids."""
        place, own = Path(self.lineage.run) / CONFIG, load_config(self.lineage.run / CONFIG, of_a_run=True)
        settings = own.model_dump(mode="json")
        for name in ("pairs", "stages", "evaluate"):
            del settings[name]
        settings["run"] = str(self.place / TRAINED)
        settings["data"] = {"features": str(self.place / REMEMBERED), "splits": [SPLIT]}
        settings["pairs"] = {"of": "neighbours"}
        settings["views"] = {"size": backbone.size, "scaled_decode": backbone.scaled_decode}
        alike = {name: backbone.model[name] for name in ("stem", "normalize") if name in backbone.model}
        settings["model"] |= alike | {
            "backbone": backbone.backbone,
            "freeze": "all",
            "pretrained": False,
            "weights": None,
            "begin": [],
            "clusters": self.rows.k,
            "heads": 1,
            "centres": [],
            "centre_parts": 1,
        }
        settings["train"] |= {"start": str(self.place / BEGIN), "device": device.type}
        return parse_config(settings, overrides, str(place))

    def make_first(self, config: Config, device: torch.device) -> None:
        """Make the network that it begins with."""
        store = self.place / REMEMBERED
        first_network(self.place / BEGIN, self.lineage, self.rows, store, config, device)

    def commit(self, config: Config, most_changed: float) -> int:
        """Keep the network, give its clusters their ids, measure what changes, and make the version.

        Raises
        ------
        InputError
            If too much changes.
        """
        lineage, draft, current = self.lineage, self.draft, self.lineage.current
        kept, basis = keep_network(draft, lineage, config, _trained(config))
        network = load(draft.folder / NETWORK, heads_alone=True)
        after = migrate(
            self.memory,
            self.rows,
            lambda features: assign_features(network, features),
            lineage.newest().next_id,
            current.seed,
        )
        images = counted(len(self.memory.reservoir), "remembered image")
        changed = f"{after.moved:.1%} of {images}"
        if after.moved > most_changed:
            raise InputError(
                f"by the retrained network {changed} would have another id, or none, and at most "
                f"{most_changed:.1%} may (--most-changed): nothing is changed. Train less (train.max_steps=…, "
                "train.lr=…), or allow more: with the same keys nothing is trained again"
            )
        say(f"the retrained network would give {changed} another id, or none; recorded ids stay as they are")
        for one in after.by_centre:
            say(f"no cluster of the retrained network corresponds to {one}: it is continued by its centre")
        draft = replace(draft, asked=f"{draft.asked}: {changed} would have another id, or none")
        return commit_change(
            lineage,
            draft,
            basis=basis,
            next_id=after.next_id,
            events=after.events,
            proposals=tuple(one for one in current.proposals if one.refused is not None),
            changes=after.changes.save(draft, lineage),
            changed=len(after.changes.refs),
            files=current.files | after.memory.save(draft) | {NETWORK: kept},
            counts=counts_after(current, after.changes),
        )
