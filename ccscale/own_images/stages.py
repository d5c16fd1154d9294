"""``ccscale cluster FOLDER``: from photographs to clusters, stage by stage.

Each stage goes on where it was, and passes at once where it is done: the same command goes on after a kill, and
takes in images that are new.

    OUT/cluster.json    what was decided (`decisions.py`)
    OUT/shards/         the images, reduced, and rejected.csv, a line for each that cannot be read
    OUT/features/       their features and nearest neighbours
    OUT/run-1/          heads trained on these; another run for each state of the shards
    OUT/report.html     what was found, to look at
    OUT/clusters.csv    a row for each image (`table.py`)
"""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ccscale.checkpoint.lock import FolderLock
from ccscale.checkpoint.run import CONFIG
from ccscale.config import Views
from ccscale.config.file import load_config
from ccscale.config.recipes import FOLDER
from ccscale.data.conversion.appending import Grown, grow_shards
from ccscale.data.conversion.rejected import REJECTED
from ccscale.data.images.channels import other_channels
from ccscale.data.sources.folders import folder as list_folder
from ccscale.data.sources.items import Source as ImageSource
from ccscale.embed.embed import BackboneSource, EmbedOptions, embed_shards
from ccscale.errors import InputError
from ccscale.evaluate.advice import advise, largest_tried
from ccscale.evaluate.evaluate import FIGURES, evaluate_run
from ccscale.features.store import Features, open_features
from ccscale.model.backbone import build_backbone
from ccscale.own_images.backbones import choose_backbone, named_backbone
from ccscale.own_images.decisions import Decisions
from ccscale.own_images.table import write_paths
from ccscale.progress import say
from ccscale.report.report import REPORT, report_run
from ccscale.train.train import train_run
from ccscale.wording import agree, counted

RECIPE, RECIPE_OF_MANY = "folder", "folder-many"
MANY = 50  # clusters from which on they are many
TABLE = "clusters.csv"
ABOUT = {
    "images": "converting the images to shards",
    "features": "computing their features",
    "clusters": "determining the number of clusters",
    "training": "training the cluster heads",
    "report": "evaluating the clusters and writing the report",
    "table": "writing the table",
}
SHOWN = 40_000  # times that images are shown to a backbone on a CPU, about; as many views follow
FEWEST, MOST = 2, 6  # random views of each image
NEIGHBOURS = 25
LOOKED_AT = 5  # images whose channels are counted; one that cannot be read tells nothing
VIEWS = Views(crop_scale=(0.3, 1.0), strength=0.5)
VIEWS_OF_CHANNELS = Views(crop_scale=(0.3, 1.0), jitter=0, grey=0, intensity=0.8, noise=0.5)
STEPS = 300  # of training, at least: a few images pass by more often
KEPT = 8 / 7  # short side of the images in shards, in sides of those that the backbone sees


@dataclass(frozen=True)
class ClusterRequest:
    """What is requested.

    Attributes
    ----------
    folder
        Of the images.
    out
        For all that is made.
    clusters
        How many; None for advice.
    labels
        Whether sub-folders are classes.
    channels
        Of the images, which are kept as they are stored; None: they are photographs, unless they can be none.
    backbone, weights, size
        In place of what this machine can have; see `backbones.py`.
    device
        See ``train.device``.
    workers
        Processes that read and decode images.
    overrides
        ``key=value`` settings over those of the recipe.
    """

    folder: Path
    out: Path
    clusters: int | None = None
    labels: bool = False
    channels: int | None = None
    backbone: str | None = None
    weights: str | None = None
    size: int | None = None
    device: str = "auto"
    workers: int | None = None
    overrides: Sequence[str] = ()


def cluster_folder(asked: ClusterRequest) -> dict[str, Any] | None:
    """Cluster the images of a folder.

    Returns
    -------
    dict or None
        ``report``, ``table``, ``run`` (paths); ``clusters``, ``advised``; ``backbone``, ``size``, ``seen``;
        ``images``, ``new``, ``rejected``, ``rejected_list`` (a path, or None), ``gone``; ``sizes`` (of the
        clusters); ``scores`` where there are labels; ``seconds`` of each stage. None if training was asked to stop.

    Raises
    ------
    InputError
        For a folder without images, an --out that holds something else, or no pretrained network to be had.
    """
    book = _open_book(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    with FolderLock(asked.out) as lock:
        lock.take()
        clock = StageClock()
        with clock.stage("images"):
            grown = _take_in(asked, book)
        with clock.stage("features"):
            features = _embed(asked, book, grown)
        with clock.stage("clusters"):
            _decide(asked, book, features)
        with clock.stage("training"):
            run = _train(asked, book, features)
        if run is None:
            return None
        with clock.stage("report"):
            figures = _report(asked, run, book.folder)
        with clock.stage("table"):
            write_paths(asked.out / TABLE, run, grown.manifest, Path(book.folder))
        return _result(asked, book, grown, run, figures) | {"seconds": clock.seconds}


def _open_book(asked: ClusterRequest) -> Decisions:
    """Go on by what was decided before, or decide which backbone looks at the images."""
    folder = os.path.realpath(asked.folder)
    book = Decisions.read(asked.out)
    if book is None:
        chosen = (
            choose_backbone(asked.device)
            if asked.backbone is None
            else named_backbone(asked.backbone, asked.weights, None, asked.device)
        )
        chosen = chosen if asked.size is None else replace(chosen, size=asked.size)
        if asked.backbone is not None:
            build_backbone(
                chosen.model(), chosen.size
            )  # what is wrong with it is told before an image is read
        return Decisions(asked.out, folder, asked.labels, chosen, views=0, channels=asked.channels)
    named = {
        "FOLDER": (book.folder, folder),
        "--labels": (book.labels, asked.labels or book.labels),
        "--channels": (book.channels, asked.channels or book.channels),
        "--backbone": (book.backbone.backbone, asked.backbone or book.backbone.backbone),
        "--weights": (book.backbone.weights, asked.weights or book.backbone.weights),
        "--size": (book.backbone.size, asked.size or book.backbone.size),
    }
    if different := [
        f"{name} was {old} and is now {new}" for name, (old, new) in named.items() if old != new
    ]:
        raise InputError(f"{asked.out} holds other clusters: {'; '.join(different)}; name another --out")
    return book


def _take_in(asked: ClusterRequest, book: Decisions) -> Grown:
    """Put the images that are new into shards."""
    source = list_folder(asked.folder, split="train", labels=book.labels)
    if book.views == 0:
        images = sum(map(len, source.splits.values()))
        if book.channels is None and (found := _channels_of(source)) is not None:
            book.channels = found
            say(f"the images have {counted(found, 'channel')}, which are kept as stored")
        book.views = max(FEWEST, min(MOST, SHOWN // images - 1))
        book.save()
    size = math.ceil(KEPT * book.backbone.size)
    processes = None if asked.workers is None else max(1, asked.workers)  # 0: none beside the loader's own
    grown = grow_shards(source, book.out / "shards", resize=size, workers=processes, channels=book.channels)
    if grown.gone:
        are, stay = agree(grown.gone, "is", "are"), agree(grown.gone, "stays", "stay")
        say(f"{counted(grown.gone, 'image')} of before {are} not there any more, and {stay} in the clusters")
    _check_number(asked, book.clusters, grown.manifest.splits["train"][0])
    return grown


def _check_number(asked: ClusterRequest, decided: int | None, images: int) -> None:
    """Refuse fewer images than clusters, and too few to find out how many clusters there are."""
    if images < max(2, asked.clusters or 0):
        most = "which cannot be grouped" if images < 2 else f"so --clusters can be at most {images}"
        raise InputError(f"{asked.folder} has {counted(images, 'image')} that can be read, {most}")
    if asked.clusters is None and decided is None:
        largest_tried(images, str(asked.folder))


def _channels_of(source: ImageSource) -> int | None:
    """Return of how many channels the first images are; None for photographs."""
    for item in islice(chain.from_iterable(source.splits.values()), LOOKED_AT):
        with contextlib.suppress(OSError):
            if (channels := other_channels(item.content.read())) is not None:
                return channels
    return None


def _embed(asked: ClusterRequest, book: Decisions, grown: Grown) -> Features:
    """Make the features of all images that have none yet, and find their neighbours."""
    say(f"backbone: {book.backbone}")
    source = BackboneSource(book.backbone.model(book.channels))
    views = VIEWS if book.channels is None else VIEWS_OF_CHANNELS
    wanted = EmbedOptions(book.backbone.size, book.views, views, book.seed)
    store = book.out / "features"
    embed_shards(
        grown.manifest.root,
        store,
        source,
        wanted,
        device=asked.device,
        workers=asked.workers,
        neighbours=_neighbours(grown.manifest.splits["train"][0]),
    )
    return open_features(store)


def _neighbours(images: int) -> int:
    """Return of how many neighbours of each image pairs are made: a few images have fewer."""
    return min(NEIGHBOURS, images - 1)


def _decide(asked: ClusterRequest, book: Decisions, features: Features) -> None:
    """Decide how many clusters are made: what is requested, what was decided before, or advice."""
    if asked.clusters is not None:
        book.clusters, book.advised = asked.clusters, False
        say(f"{book.clusters:,} clusters, as --clusters says")
    elif book.clusters is not None:
        say(f"{book.clusters:,} clusters, as before; use --clusters K for another number")
    else:
        advice = advise(features, book.seed, show=True)
        book.clusters, book.advised = advice.clusters, True
        say(f"{advice.sentence}; use --clusters K for another number than {advice.clusters}")
    book.save()


def _train(asked: ClusterRequest, book: Decisions, features: Features) -> Path | None:
    """Train heads on the features, from those from before if there are any; None if asked to stop."""
    assert book.clusters is not None
    run, before = book.run_of(features.digest, book.clusters)
    settings = [f"data.features={features.folder}", f"run={run}", f"train.device={asked.device}"]
    begun = run / CONFIG
    if not begun.exists():  # a run that is begun keeps its config, whatever the recipe of a later release
        recipe_name = RECIPE if book.clusters < MANY else RECIPE_OF_MANY
        begun = FOLDER / f"{recipe_name}.yaml" if before is None else before / CONFIG
        settings += [f"model.clusters={book.clusters}", f"train.start={before or 'null'}"]
        recipe = load_config(begun, [*settings, *asked.overrides])
        batch = min(recipe.train.global_batch, 2 ** int(math.log2(max(2, features.rows // 2))))
        epochs = max(recipe.train.epochs, math.ceil(STEPS / (features.rows // batch)))
        settings += [f"train.global_batch={batch}", f"train.epochs={epochs}"]
        settings += [f"pairs.neighbours={_neighbours(features.rows)}"]
    return run if train_run(load_config(begun, [*settings, *asked.overrides])).finished else None


def _report(asked: ClusterRequest, run: Path, folder: str) -> dict[str, Any]:
    """Measure the clusters and write the report; return the figures."""
    if not (run / FIGURES).exists():
        evaluate_run(run, merge="backbone", device=asked.device, workers=asked.workers)
    report_run(run, device=asked.device, workers=asked.workers, images=folder)
    shutil.copyfile(run / REPORT, asked.out / REPORT)
    return json.loads((run / FIGURES).read_text(encoding="utf-8"))


def _result(
    asked: ClusterRequest, book: Decisions, grown: Grown, run: Path, figures: dict[str, Any]
) -> dict[str, Any]:
    names = ("sizes", "empty", "largest", "confidence", "warnings", "per_cluster", "classes")
    found = {
        "report": str(asked.out / REPORT),
        "table": str(asked.out / TABLE),
        "run": str(run),
        "clusters": book.clusters,
        "advised": book.advised,
        "backbone": book.backbone.backbone,
        "size": book.backbone.size,
        "seen": book.backbone.seen,
        "images": figures["images"],
        "new": grown.new,
        "rejected": len(grown.rejected),
        "rejected_list": f"{grown.manifest.root}/{REJECTED}" if grown.rejected else None,
        "gone": grown.gone,
        **{name: figures[name] for name in names if name in figures},
    }
    if figures["labelled"]:
        found["scores"] = {name: figures[name] for name in ("acc", "nmi", "ari", "f")}
    return found


class StageClock:
    """Says which stage begins, and how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say that a stage begins, and take its time."""
        start = time.monotonic()
        say(f"{len(self.seconds) + 1}/{len(ABOUT)} {ABOUT[name]}")
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
