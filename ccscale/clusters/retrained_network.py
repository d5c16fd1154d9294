"""The network of a retraining: its initialization and its result."""

import shutil
from pathlib import Path

import numpy as np
import torch

from ccscale.clusters.draft import Draft, disk_errors_as_fault
from ccscale.clusters.lineage import Lineage
from ccscale.clusters.rehearsal import Rehearsal
from ccscale.clusters.version import NETWORK, Kept, NetworkBasis
from ccscale.config import Config, Views
from ccscale.data.shards.hashing import hash_file
from ccscale.features.store import open_features
from ccscale.model.export import WEIGHTS, export, load, read_export, read_settings
from ccscale.model.heads import ClusterHead
from ccscale.model.network import ContrastiveClustering
from ccscale.train.first_heads import fit_head

OF_FILE = ("format", "version", "ccscale", "model", "image", "heads", "serves")  # of an export's config
OURS = ("clusters", "heads", "centres", "centre_parts")  # of the section model


def first_network(
    place: Path, lineage: Lineage, rows: Rehearsal, store: Path, config: Config, device: torch.device
) -> None:
    """Make the network that a retraining begins with, where it is not there from before a kill; on one rank.

    Its instance head is the clusters' own; so is its cluster head, where there are as many clusters, and it is
    fitted to the ids that images have.
    """
    part = place.with_name(f"{place.name}.part")
    if place.exists():
        return
    old = load(lineage.network(), heads_alone=True)
    torch.manual_seed(config.seed)
    network = ContrastiveClustering(config.model.bare, config.views.size, rows.features.shape[1])
    network.instance_head.load_state_dict(old.instance_head.state_dict())
    given = old.cluster_head
    heads = [given] if isinstance(given, ClusterHead) else list(given)
    head = network.cluster_head
    assert isinstance(head, ClusterHead)
    if old.serving < len(heads) and old.k == rows.k:
        head.load_state_dict(heads[old.serving].state_dict())
    elif head.centred is not None and heads[0].centred is not None:
        head.centred.load_state_dict(heads[0].centred.state_dict())
    of, seed = np.flatnonzero(rows.clusters >= 0), (config.seed, 0)
    head.load_state_dict(fit_head(head, open_features(store), of, rows.clusters[of], seed, device))
    with disk_errors_as_fault(lineage.folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        export(part, config.model.bare, config.views, network.state_dict(), {"width": network.width})
        part.rename(place)


def keep_network(draft: Draft, lineage: Lineage, config: Config, trained: Path) -> tuple[Kept, NetworkBasis]:
    """Write the clusters' network with the trained heads into a version; return what it lists of it."""
    heads, step = read_export(trained, joined=False)[2], int(read_settings(trained)[2]["step"])
    before, image, facts = read_settings(lineage.network())
    weights = read_export(lineage.network())[2]
    backbone = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    settings = before.model_copy(update={name: getattr(config.model, name) for name in OURS})
    facts = {name: value for name, value in facts.items() if name not in OF_FILE} | {"step": step}
    views = Views(size=image["size"], scaled_decode=image["scaled_decode"])
    place = draft.folder / NETWORK
    with disk_errors_as_fault(draft.clusters):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        export(place, settings, views, backbone | heads, facts)
    sha256 = hash_file(place / WEIGHTS)[0]
    return Kept(version=draft.number, sha256=sha256), NetworkBasis(step=step, weights=sha256)
