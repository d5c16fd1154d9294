"""Principal components of deviation 1, against numpy's own."""

import numpy as np

from ccscale.features import whitening as module
from ccscale.features.vectors import Vectors
from ccscale.features.whitening import whitening


def test_components_have_deviation_one_and_none_in_common(monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)
    draw = np.random.default_rng(0)
    x = (draw.normal(size=(300, 6)) @ draw.normal(size=(6, 6)) + 3).astype(np.float32)
    mean, axes = whitening(Vectors.of_array(x), 4)
    y = (x - mean) @ axes
    assert np.allclose(y.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(np.cov(y.T, bias=True), np.eye(4), atol=1e-4)
    kept = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:4]  # their directions, and no others
    assert np.allclose(axes - kept.T @ (kept @ axes), 0, atol=1e-4 * np.abs(axes).max())
