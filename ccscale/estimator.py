"""A scikit-learn estimator: clusters arrays of images, with the same shards, views and trainer as a run.

`fit` writes the images as shards into a temporary folder, trains a run there, and keeps the network. So what holds
for a run holds here: the same images, parameters and seed give the same clusters. It may be used in any thread and
leaves signals to the program that uses it; trainings in one process take turns, since torch has one process group
and one state of random numbers there.
"""

import contextlib
import copy
import io
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ccscale import dist
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.data.conversion.shards import make_shards
from ccscale.data.image_files import read_images
from ccscale.data.sources.arrays import Pixels, array_source, range_of, to_pixels
from ccscale.data.sources.contents import encode_png
from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.evaluate.heads import serving_head
from ccscale.evaluate.opened_run import run_and_checkpoint
from ccscale.model.export import load
from ccscale.model.network import ContrastiveClustering, Outputs
from ccscale.preempt import StopRequest
from ccscale.rank_environment import RankEnvironment
from ccscale.train.train import train_run

SMALLEST, LARGEST = 32, 224  # sides of the images that the network sees, where `size` is not given
AT_A_TIME = 64  # images that go through the network together in `predict` and `transform`

_TRAINING = threading.Lock()


class ContrastiveClusteringEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Contrastive Clustering (Li et al., AAAI 2021) of images in an array.

    For more images than memory holds, for several GPUs, and for runs that go on where they were stopped, use shards
    and ``ccscale train``.

    Parameters
    ----------
    n_clusters : int, default 8
        K.
    backbone : str, default "resnet10t"
        Any timm model name. The default is a small one, for CPUs.
    size : int, optional
        Side in pixels that images are resized to; by default the longer side of those in `fit`, from 32 to 224.
    image_shape : tuple of int, optional
        For images that are rows of numbers, as scikit-learn's data sets have them: (height, width) or (height,
        width, 3), one of which may be -1, as in `numpy.reshape`.
    value_range : (float, float) or "fit", optional
        What is black and what is white; by default (0, 255) for uint8, else (0, 1). ``"fit"``: the smallest and the
        largest number in `fit`, and what lies beyond them later is taken for these.
    epochs : int, default 100
        Passes over the images.
    batch_size : int, default 256
        Images in a step, at most as many as there are. It should be several times `n_clusters`.
    learning_rate : float, default 3e-4
        Adam's, constant.
    settings : mapping, optional
        Any other keys of the config, as ``{"views.flip": 0, "model.pretrained": True}``; ``ccscale config`` lists
        them. ``{"model.stem": "small"}`` makes more of images under 96 pixels, in ten times the time.
    device : str, default "auto"
        ``"auto"``, ``"cpu"`` or ``"cuda"``: where `fit`, `predict`, `predict_proba` and `transform` compute.
    random_state : int or RandomState, optional
        Seed of weights, order and views: a number, a `RandomState`, or None for another one in each `fit`.
    verbose : bool, default False
        Whether to tell on standard error how far training is, and what it shows of the clusters.

    Attributes
    ----------
    labels_ : ndarray
        (n,) int64: the cluster of each image in `fit`.
    network_ : ContrastiveClustering
        The `ccscale.ContrastiveClustering`, on the device; on the CPU where it is pickled.
    config_ : Config
        The `ccscale.Config` that it was trained by.
    n_iter_ : int
        Steps that were taken.
    n_features_in_ : int
        The second axis of the array in `fit`: numbers in a row, or the images' height.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from ccscale import ContrastiveClusteringEstimator
    >>> digits = load_digits()
    >>> estimator = ContrastiveClusteringEstimator(10, value_range=(0, 16), random_state=0, verbose=True)
    >>> clusters = estimator.fit_predict(digits.images)  # doctest: +SKIP
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        backbone: str = "resnet10t",
        size: int | None = None,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | str | None = None,
        epochs: int = 100,
        batch_size: int = 256,
        learning_rate: float = 3e-4,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.backbone = backbone
        self.size = size
        self.image_shape = image_shape
        self.value_range = value_range
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.settings = settings
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Train on images.

        Parameters
        ----------
        X : array-like
            (n, height, width) grey or (n, height, width, 3) RGB; (n, numbers) where `image_shape` is given.
        y : object, default None
            Ignored.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        InputError
            A `ValueError`: for an array that holds no images, or parameters that are none.
        KeyboardInterrupt
            On Ctrl-C, which ends the training at once; what was fitted before stays.
        """
        if max(RankEnvironment.read().world, dist.world()) > 1:
            raise InputError("the estimator trains in one process; for several use `ccscale train` on shards")
        _refuse_files(X)
        values = validate_data(self, X, dtype="numeric", allow_nd=True, ensure_min_samples=2)
        self._range = range_of(values, self.value_range)
        images = self._to_pixels(values)
        seed = int(check_random_state(self.random_state).randint(2**31))
        with _TRAINING, tempfile.TemporaryDirectory(prefix="ccscale-") as folder, self._quiet():
            config = self._config_of(images, Path(folder), seed)
            make_shards(array_source(images), config.data.place, workers=1, progress=False)
            self.network_, self.n_iter_ = _train(config)
        self.config_ = config
        self._n_features_out = self.network_.width
        self.labels_ = self._outputs(images).assignments.argmax(dim=1).numpy()
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the cluster of each image.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray
            (n,) int64.
        """
        clusters: NDArray[np.int64] = self._of(X).assignments.argmax(dim=1).numpy()
        return clusters

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the soft assignments of each image.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray
            (n, n_clusters) float32, rows that sum to 1.
        """
        assignments: NDArray[np.float32] = self._of(X).assignments.numpy()
        return assignments

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the backbone's features of each image.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray
            (n, D) float32.
        """
        features: NDArray[np.float32] = self._of(X).features.numpy()
        return features

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def _of(self, X: ArrayLike) -> Outputs:
        """Return the outputs of images after `fit`: rows of as many numbers as there, or images of any size."""
        check_is_fitted(self)
        _refuse_files(X)
        if self.image_shape is not None:
            values = validate_data(self, X, dtype="numeric", allow_nd=True, reset=False)
        else:
            values = check_array(X, dtype="numeric", allow_nd=True, input_name="X")
        return self._outputs(self._to_pixels(values))

    def _to_pixels(self, values: NDArray[Any]) -> Pixels:
        return to_pixels(values, self.image_shape, *self._range, clip=self.value_range == "fit")

    def _config_of(self, images: Pixels, folder: Path, seed: int) -> Config:
        """Return the config of the run in `folder`."""
        size = self.size
        if size is None:
            size = min(max(*images.shape[1:3], SMALLEST), LARGEST)
        grey = images.ndim == 3
        keys: dict[str, Any] = {
            "run": str(folder / "run"),
            "seed": seed,
            "data.shards": str(folder / "shards"),
            "data.workers": 0,
            "views.size": size,
            "views.hue": 0.0 if grey else 0.2,
            "views.saturation": 0.0 if grey else 0.8,
            "views.grey": 0.0 if grey else 0.2,
            "model.backbone": self.backbone,
            "model.clusters": self.n_clusters,
            "train.epochs": self.epochs,
            "train.global_batch": min(self.batch_size, len(images)),
            "train.lr": self.learning_rate,
            "train.save_every": 10**9,  # at the end alone
            "train.save_minutes": None,
            "train.device": self.device,
            **(self.settings or {}),
        }
        nested: dict[str, Any] = {}
        for key, value in keys.items():
            *sections, name = key.split(".")
            place = nested
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value.item() if isinstance(value, np.generic) else value
        return parse_config(nested, place="the estimator's parameters")

    def _outputs(self, images: Pixels) -> Outputs:
        """Return features, embeddings and assignments as evaluation has them: whole images, resized."""
        device = pick_device(self.device, RankEnvironment.read().local_rank)
        network, parts = self.network_.to(device), []
        with torch.inference_mode():
            for start in range(0, len(images), AT_A_TIME):
                encoded = [encode_png(image) for image in images[start : start + AT_A_TIME]]
                outputs = network(read_images(encoded, network.size).to(device))
                parts.append([tensor.cpu() for tensor in outputs])
        features, embeddings, assignments = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return Outputs(features, embeddings, assignments)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the network so that a machine without this one's device can use it."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "network_" in state:
            state["network_"] = copy.deepcopy(state["network_"]).cpu()
        return state

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Say nothing of the training, unless it is requested; leave torch's random numbers as they were."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng())
            if not self.verbose:
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            yield


def _train(config: Config) -> tuple[ContrastiveClustering, int]:
    """Train a run; return its network, on the CPU, and its steps."""
    try:
        outcome = train_run(config, StopRequest())  # one that no signal makes: they are the caller's
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "the training was interrupted, and nothing of it is kept: with fewer epochs or a smaller backbone it "
            "takes less time; for a run that can be resumed, use `ccscale train` on shards"
        ) from None
    _, checkpoint = run_and_checkpoint(config.run_folder)
    head = serving_head(config.model, checkpoint.heads)
    return load(checkpoint.path).serve(head), outcome.step or 0


def _refuse_files(X: object) -> None:
    """Say what to do with names of files, which scikit-learn would call an array of the wrong shape."""
    first = X[0] if isinstance(X, list | tuple) and X else X
    if isinstance(first, str | os.PathLike):
        raise InputError(
            "X holds the names of files: read them into an array first, as with numpy.array(PIL.Image.open(name)); "
            "`ccscale cluster FOLDER` takes files"
        )
