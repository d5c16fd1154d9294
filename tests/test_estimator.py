"""The scikit-learn face: arrays of images in, clusters out, by the real trainer."""

import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor, nn

import ccscale
from ccscale.config import Config
from ccscale.data.conversion.shards import make_shards
from ccscale.data.shards.manifest import Manifest
from ccscale.data.sources.arrays import array_source
from ccscale.errors import InputError
from ccscale.estimator import ContrastiveClusteringEstimator
from ccscale.evaluate.assign import assign
from ccscale.model.network import Outputs
from ccscale.train.step import Stepper

pytestmark = pytest.mark.slow

FLAT = {"views.crop_scale": [0.6, 1.0]}


def quick(n_clusters: int = 3, **changes: Any) -> ContrastiveClusteringEstimator:
    parameters: dict[str, Any] = {
        "backbone": "test_resnet",
        "size": 16,
        "epochs": 2,
        "batch_size": 16,
        "device": "cpu",
        "random_state": 0,
    }
    return ContrastiveClusteringEstimator(n_clusters, **parameters | changes)


def stripes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 24, 20, 3) uint8 images of three kinds, and their kinds: lying, standing, none at all."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, count)
    rows, columns = np.mgrid[:24, :20]
    images = np.empty((count, 24, 20, 3), dtype=np.uint8)
    for image, kind in zip(images, kinds, strict=True):
        wave = (np.sin(rows * 1.3), np.sin(columns * 1.3), np.zeros((24, 20)))[kind]
        image[:] = (128 + 90 * wave[..., None] + rng.normal(0, 8, (24, 20, 3))).clip(0, 255)
    return images, kinds


@pytest.fixture(scope="module")
def fitted() -> ContrastiveClusteringEstimator:
    return quick().fit(stripes(48)[0])


def test_it_learns() -> None:
    images, kinds = stripes(128)
    estimator = quick(epochs=18, batch_size=64, learning_rate=3e-3, settings=FLAT).fit(images)
    assert adjusted_rand_score(kinds, estimator.labels_) > 0.9
    others, of_others = stripes(60, seed=1)
    assert adjusted_rand_score(of_others, estimator.predict(others)) > 0.9


def test_what_it_gives(fitted: ContrastiveClusteringEstimator) -> None:
    images, _ = stripes(48)
    assert fitted.labels_.shape == (48,)
    assert np.array_equal(fitted.predict(images), fitted.labels_)
    soft, features = fitted.predict_proba(images), fitted.transform(images)
    assert soft.shape == (48, 3)
    assert np.allclose(soft.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(soft.argmax(axis=1), fitted.labels_)
    assert features.shape == (48, fitted.network_.width)
    assert len(fitted.get_feature_names_out()) == features.shape[1]
    assert fitted.n_iter_ == 6  # 2 epochs of 3 batches
    assert isinstance(fitted.config_, Config)
    assert ccscale.ContrastiveClusteringEstimator is ContrastiveClusteringEstimator


def test_the_labels_are_those_of_a_run(fitted: ContrastiveClusteringEstimator, tmp_path: Path) -> None:
    """`ccscale train` with the estimator's config on the same shards, and its evaluation."""
    make_shards(array_source(stripes(48)[0]), str(tmp_path / "shards"), workers=1)
    changes = {"run": str(tmp_path / "run")}
    data = fitted.config_.data.model_copy(update={"shards": str(tmp_path / "shards")})
    config = fitted.config_.model_copy(update=changes | {"data": data})
    assert ccscale.train_run(config).finished
    (export,) = (tmp_path / "run" / "checkpoints").iterdir()
    network = ccscale.load(export)
    for name, value in fitted.network_.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    by_key: dict[str, int] = {}
    for found in assign(network, Manifest.load(tmp_path / "shards"), ["train"], config, progress=False):
        by_key |= zip(found.batch.keys, found.clusters.tolist(), strict=True)
    assert [by_key[key] for key in sorted(by_key)] == fitted.labels_.tolist()


def test_the_seed_is_all_that_counts(fitted: ContrastiveClusteringEstimator) -> None:
    images, _ = stripes(48)
    torch.manual_seed(77)
    before = torch.random.get_rng_state()
    again = quick().fit(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(again.transform(images), fitted.transform(images))
    other = quick(random_state=1).fit(images)
    assert not np.array_equal(other.transform(images), fitted.transform(images))


def test_numbers_of_any_range_are_the_same_images(fitted: ContrastiveClusteringEstimator) -> None:
    images, _ = stripes(48)
    expected = fitted.transform(images)
    for values, options in (
        (images / 255, {}),
        (images.astype(np.int64), {"value_range": (0, 255)}),
        (images.astype(np.float32) * 4 - 7, {"value_range": (-7, 4 * 255 - 7)}),
        (images.reshape(48, -1) / 255, {"image_shape": (24, -1, 3)}),
    ):
        assert np.array_equal(quick(**options).fit(values).transform(values), expected)
    grey = images[..., 0] / 255
    estimator = quick(value_range="fit").fit(grey)
    assert estimator.config_.views.hue == estimator.config_.views.grey == 0
    assert np.array_equal(estimator.predict(grey + 2), estimator.predict(np.full_like(grey, grey.max())))


def test_it_can_be_copied_and_kept(fitted: ContrastiveClusteringEstimator) -> None:
    images, _ = stripes(48)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict(images), fitted.labels_)
    assert not hasattr(clone(fitted), "labels_")


def test_it_says_nothing_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    quick().fit(stripes(16)[0])
    assert capfd.readouterr() == ("", "")
    quick(verbose=True).fit(stripes(16)[0])
    assert "training" in capfd.readouterr().err


def test_threads_take_turns(fitted: ContrastiveClusteringEstimator) -> None:
    """In any thread it gives what it gives in the main one, and leaves the process as it was."""
    images, _ = stripes(48)
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: quick(random_state=seed).fit(images).transform(images), (0, 1, 0)))
    assert np.array_equal(found[0], fitted.transform(images))
    assert np.array_equal(found[2], found[0])
    assert not np.array_equal(found[1], found[0])
    assert dict(os.environ) == before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ctrl_c_ends_it_and_it_can_be_fitted_again(fitted: ContrastiveClusteringEstimator) -> None:
    images, _ = stripes(48)
    take, estimator, steps = Stepper.take, quick(), []

    def interrupted(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return take(*arguments)

    with mock.patch.object(Stepper, "take", interrupted), pytest.raises(KeyboardInterrupt) as caught:
        estimator.fit(images)
    assert len(steps) == 3  # at once, not at the end of the step
    assert str(caught.value).startswith("the training was interrupted, and nothing of it is kept: ")
    assert not hasattr(estimator, "network_")
    assert np.array_equal(estimator.fit(images).transform(images), fitted.transform(images))


def test_it_computes_on_its_device(
    fitted: ContrastiveClusteringEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands for a GPU that need not be there."""

    class Elsewhere(nn.Module):
        size = 16

        def forward(self, images: Tensor) -> Outputs:
            assert images.device == self.weight.device == torch.device("meta")
            return Outputs(*(torch.arange(3.0).expand(len(images), 3) for _ in range(3)))

    estimator = clone(fitted).set_params(device="cuda")
    estimator.__dict__ |= {name: value for name, value in vars(fitted).items() if name not in vars(estimator)}
    estimator.network_ = Elsewhere()
    estimator.network_.weight = nn.Parameter(torch.zeros(3))
    wanted = []
    monkeypatch.setattr(
        "ccscale.estimator.pick_device", lambda name, rank: wanted.append(name) or torch.device("meta")
    )
    assert estimator.predict(stripes(5)[0]).tolist() == [2] * 5
    assert wanted == ["cuda"]


def test_a_process_group_of_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the caller's own, which the environment need not tell: its other ranks would be waited for."""
    monkeypatch.setattr("ccscale.dist.world", lambda group=None: 2)
    with pytest.raises(InputError, match="trains in one process"):
        quick().fit(np.zeros((5, 8, 8)))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((5, 48)), {}, r"shape \(5, 48\).*rows of numbers need image_shape"),
        (np.zeros((8, 8, 3)), {}, r"shape \(8, 8, 3\), which is that of one RGB image: X\[None\]"),
        (np.zeros((5, 3, 8, 8)), {}, r"shape \(5, 3, 8, 8\); it holds images as \(n, height, width\) or"),
        (np.zeros((5, 8, 8, 4)), {}, r"\(n, height, width, 3\)"),
        (np.zeros((5, 2, 8, 8, 3)), {}, "it holds images as"),
        (np.zeros((5, 8, 0)), {}, "it holds images as"),
        (np.zeros((1, 8, 8)), {}, "1 sample"),
        (np.full((5, 8, 8), np.nan), {}, "NaN"),
        (np.full((5, 8, 8), 200.0), {}, r"from 200 to 200.*float64.*from 0 to 1: set value_range="),
        (np.full((5, 8, 8), -1), {"value_range": (0, 255)}, "values from -1 to -1"),
        (np.zeros((5, 8, 8)), {"value_range": (1, 1)}, "the smaller first"),
        (np.zeros((5, 8, 8)), {"value_range": "data"}, "'fit' or None"),
        (
            np.zeros((5, 50)),
            {"image_shape": (7, 7)},
            r"50 values, which do not form an image of shape \(7, 7\)",
        ),
        (np.zeros((5, 8, 8)), {"image_shape": (8, 8)}, "with image_shape it is"),
        (np.zeros((5, 8, 8)), {"n_clusters": 1}, "'model.clusters' is 1"),
        (np.zeros((5, 8, 8)), {"backbone": "resnet99"}, "no model 'resnet99'"),
        (np.zeros((5, 8, 8)), {"settings": {"train.epoch": 3}}, "no key 'train.epoch'.*'train.epochs'"),
        (np.array([["a", "b"]] * 5), {"image_shape": (1, 2)}, "arrays of bytes/strings"),
    ],
)
def test_bad_arrays_and_parameters_are_told(
    values: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(values)


def test_bad_arrays_are_told_after_fit_too(fitted: ContrastiveClusteringEstimator) -> None:
    with pytest.raises(InputError, match="rows of numbers need image_shape"):
        fitted.predict(np.zeros((5, 48), dtype=np.uint8))
    with pytest.raises(InputError, match="X holds the names of files: read them into an array first"):
        fitted.predict(["a.jpg", "b.jpg"])
    with pytest.raises(InputError, match="values from 300 to 300"):
        fitted.predict(np.full((5, 8, 8), 300))
    assert fitted.predict(np.zeros((1, 8, 9, 3), dtype=np.uint8)).shape == (1,)  # another size is resized


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="trains in one process"):
        quick().fit(np.zeros((5, 8, 8)))


ONE_CLUSTER = "it sets n_clusters to 1, and the cluster loss contrasts clusters with each other: two at least"
EXPECTED_FAILURES = {
    "check_dont_overwrite_parameters": ONE_CLUSTER,
    "check_methods_subset_invariance": ONE_CLUSTER,
    "check_fit2d_1feature": ONE_CLUSTER,
    "check_fit2d_predict1d": ONE_CLUSTER,
    "check_clustering": "it wants groups of points in a plane; to a view of two pixels a point is its mirror image",
}


@parametrize_with_checks(
    [
        ContrastiveClusteringEstimator(
            3,
            image_shape=(1, -1),  # the checks' rows of numbers are images of one line
            value_range="fit",
            size=8,
            backbone="test_resnet",
            device="cpu",
            random_state=0,
            settings={"train.max_steps": 2},
        )
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learns_own_checks(estimator: ContrastiveClusteringEstimator, check: Any) -> None:
    check(estimator)
