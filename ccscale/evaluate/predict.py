"""``ccscale predict RUN|EXPORT`` writes a table with the cluster of every image, in shards or files.

Ranks write the table in parts, one for each span of a shard (`parts_folder.py`), and hold one part in memory at
a time. After an interruption only the missing parts are computed.

    --out FILE.parquet|.csv   FILE.parquet.parts/ during the run; joined part by part at the end
    --out DIR/                the parts themselves
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.checkpoint.lock import FolderLock
from ccscale.data.file_reader import FileReader
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.shard_watch import ShardWatch
from ccscale.data.sources.listing import ImageListing, list_images
from ccscale.errors import InputError
from ccscale.evaluate.assign import assign
from ccscale.evaluate.basis import weights_of
from ccscale.evaluate.follow_shards import follow_shards
from ccscale.evaluate.merge_tree import read_tree
from ccscale.evaluate.naming import ResolvedNames
from ccscale.evaluate.opened_run import OpenedRun, open_run, open_shards
from ccscale.evaluate.parts import Part, deal, parts_of
from ccscale.evaluate.parts_folder import PartsFolder
from ccscale.evaluate.postprocessing import Postprocessor
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.table import check_table_path
from ccscale.preempt import StopRequest
from ccscale.progress import say
from ccscale.wording import agree, counted


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction.

    Attributes
    ----------
    out : str
        A .parquet or .csv file, or a folder for parts (that exists or ends in /).
    features : str, optional
        Also write the features: ``backbone`` or ``instance``.
    merged : int, optional
        Merge the clusters into this many, by the tree of ``evaluate --merge``.
    follow : bool, default False
        Continue with shards that appear, until stopped.
    idle : float, optional
        Stop following after this many seconds without a new shard.
    reject : Reject, optional
        Leave images without a cluster that are too far from the run's own or too ambiguous.
    """

    out: str
    features: str | None = None
    merged: int | None = None
    follow: bool = False
    idle: float | None = None
    reject: Reject | None = None

    @property
    def path(self) -> Path:
        """The file or folder."""
        return Path(self.out)

    @property
    def is_folder(self) -> bool:
        """Whether parts are wanted, rather than one table."""
        return self.out.endswith("/") or self.path.is_dir()

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.path if self.is_folder else self.path.with_name(f"{self.path.name}.parts")

    def check(self) -> None:
        """Refuse what cannot be written, before any work is done for it.

        Raises
        ------
        InputError
            With the remedy.
        """
        if not self.is_folder:
            if self.follow:
                raise InputError(f"--follow writes parts as shards arrive: give a folder, --out {self.out}/")
            check_table_path(self.path)
            if self.features is not None and self.path.suffix == ".csv":
                raise InputError("--features needs a .parquet file or a folder: CSV cannot store lists")
        elif not self.path.parent.is_dir():
            raise InputError(f"there is no folder {self.path.parent} for {self.path.name}; create it first")
        if self.idle is not None and not self.follow:
            raise InputError("--idle goes with --follow")
        if self.reject is not None and self.merged is not None:
            raise InputError("--reject does not work with merged clusters: leave out --merged")


def predict_run(
    run: str | Path,
    shards: str | None,
    wanted: PredictOptions,
    splits: Sequence[str] | None = None,
    *,
    images: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    checkpoint: str = "last",
    request: StopRequest | None = None,
    clusters: int | None = None,
) -> dict[str, Any] | None:
    """Write the cluster and confidence of every image, each exactly once. All ranks call it together.

    Parameters
    ----------
    run : str or Path
        The folder of a run or of an exported network.
    shards : str, optional
        A data set, with or without labels; None if `images` is given.
    wanted : PredictOptions
        What to write and where.
    splits : sequence of str, optional
        All by default.
    images : sequence of str, optional
        Instead of shards: folders, images, and lists of these (``.txt``, one path per line). They are read in
        place; the key of a row is the path.
    device : str, default "auto"
        See ``train.device``.
    workers : int, optional
        See ``data.workers``.
    checkpoint : str, default "last"
        Which one; see `checkpoint.choose`.
    request : StopRequest, optional
        Stops following new shards when it is set. Default: signals are not handled.
    clusters : int, optional
        K, for a network with heads for several; default the first.

    Returns
    -------
    dict or None
        On rank 0: ``step``, ``out``, ``notes``, the figures of `PartsFolder.summary`. None elsewhere.

    Raises
    ------
    InputError
        If the run, the data or the table's folder do not exist, or the folder has parts of another prediction.
    Fault
        If they cannot be written.
    """
    if request is None:
        request = StopRequest()
    if (shards is None) == (not images):
        raise InputError("predict needs either shards or images: give one of --shards DIR and --images PATH")
    with FolderLock(Path(run)) as lock:
        with open_run(run, device, workers, checkpoint, request, exports=True, clusters=clusters) as opened:
            dist.on_rank_zero(wanted.check)
            if lock.covers(wanted.path):
                dist.on_rank_zero(lock.take)
            prediction = Prediction(opened, wanted)
            if shards is None:
                if wanted.follow or splits:
                    raise InputError("--follow and --split need --shards: leave them out with --images")
                prediction.files(dist.on_rank_zero(lambda: list_images(images)))
            elif wanted.follow:
                prediction.follow(ShardWatch(shards, splits), request)
            else:
                prediction.once(*open_shards(shards, splits))
            first = dist.rank() == 0
        # After the process group: no rank waits while the first joins what may be hundreds of gigabytes.
        return prediction.finish() if first else None


class Prediction:
    """One prediction; all ranks make it together, up to `finish`."""

    def __init__(self, opened: OpenedRun, wanted: PredictOptions) -> None:
        self.opened, self.wanted = opened, wanted
        weights = dist.on_rank_zero(lambda: weights_of(opened.checkpoint))
        self.groups, self.notes = dist.on_rank_zero(lambda: self._cut_tree(weights))
        self.k = opened.network.k if self.groups is None else int(self.groups.max()) + 1
        self.known = dist.on_rank_zero(lambda: self._find_known(weights))
        self.folder = self._parts_folder(weights)
        self.parts: dict[str, Part] = {}
        self._files: FileReader | None = None

    def once(self, manifest: Manifest, splits: tuple[str, ...]) -> None:
        """Assign the images that exist now."""
        shards = manifest.select(splits)
        chosen = replace(manifest, shards=shards)
        if not any(shard.nsamples for shard in shards):
            raise InputError(f"there are no images in the splits {', '.join(splits)} of {manifest.root}")
        if self._files is None:
            self.notes += dist.on_rank_zero(lambda: self.opened.notes(manifest))
        dist.on_rank_zero(lambda: self.folder.begin(data=manifest.digest(splits)))
        done = self._assign(chosen)
        if done and dist.rank() == 0:
            there = f"{done:,} of {counted(len(self.parts), 'part')}"
            say(f"continued after {there} that {agree(done, 'was', 'were')} already done")

    def files(self, listing: ImageListing) -> None:
        """Assign files of images."""
        if listing.passed.kinds:
            dist.say(str(listing.passed))
        self._files = FileReader(listing)
        self.once(listing.manifest, tuple(listing.manifest.splits))

    def follow(self, watch: ShardWatch, request: StopRequest) -> None:
        """Assign shards as they appear, until stopped or none has appeared for `PredictOptions.idle` seconds."""
        dist.on_rank_zero(watch.check)
        dist.on_rank_zero(self.folder.begin)
        for found in follow_shards(watch, request, self.wanted.idle):
            self._assign(found, request)
        self.notes += dist.on_rank_zero(lambda: self.opened.notes(watch.manifest) if watch.handed_out else [])

    def finish(self) -> dict[str, Any]:
        """Join the parts into one table if requested; return the figures. On rank 0 only."""
        done = self.folder.done(self.parts.values())
        parts = [part for part in self.parts.values() if part.name in done]
        summary = self.folder.summary(parts, self.k)
        if not self.wanted.is_folder:
            self.folder.join(parts, self.wanted.path)
        facts = {"step": self.opened.checkpoint.step, "out": self.wanted.out, "notes": self.notes}
        return facts | summary

    def _assign(self, manifest: Manifest, request: StopRequest | None = None) -> int:
        """Assign the missing parts; return the number of existing ones. Ends early on a request."""
        opened, splits = self.opened, tuple(manifest.splits)
        parts = parts_of(manifest.shards)
        self.parts |= {part.name: part for part in parts}
        done = dist.on_rank_zero(lambda: self.folder.done(parts))
        mine = deal(parts, done, dist.rank(), dist.world())
        spans = [part.span for part in mine]
        batches = assign(
            opened.network,
            manifest,
            splits,
            opened.config,
            workers=opened.workers,
            spans=spans,
            groups=self.groups,
            request=request,
            origins=True,
            files=self._files,
        )
        told = map(self.known.apply, batches)
        dist.together(lambda: self.folder.write(mine, told))
        return len(done)

    def _find_known(self, weights: str) -> Postprocessor:
        """Return the postprocessor; merged clusters have neither names nor calibration."""
        known = Postprocessor.of(self.opened, weights, self.wanted.reject)
        return known if self.groups is None else Postprocessor(ResolvedNames(self.k))

    def _cut_tree(self, weights: str) -> tuple[Int64 | None, list[str]]:
        """Return the group that each cluster is merged into, if requested, and notes."""
        if (merged := self.wanted.merged) is None:
            return None, []
        if self.opened.config.run is None:
            raise InputError("an exported network has no merge tree: leave out --merged, or give the run")
        opened = self.opened
        tree = read_tree(opened.config.run_folder, opened.checkpoint.step, weights, opened.network.serving)
        return tree.groups(merged), list(tree.notes)

    def _parts_folder(self, weights: str) -> PartsFolder:
        known = self.known
        settings = {
            "format": "ccscale-parts",
            "step": self.opened.checkpoint.step,
            "weights": weights,
            "features": self.wanted.features,
            "merged": None if self.groups is None else self.k,
            **({"head": self.opened.network.serving} if self.opened.network.serving else {}),
            "groups": None if self.groups is None else hashlib.sha256(self.groups.tobytes()).hexdigest(),
            "sureness": None if known.reliability is None else known.reliability.digest,
            "reject": None if self.wanted.reject is None else str(self.wanted.reject),
            **({} if known.called.by_hand is None else {"names": known.called.by_hand.digest}),
        }
        return PartsFolder(self.wanted.folder, settings, features=self.wanted.features)
