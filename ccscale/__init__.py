"""ccscale groups images without labels, at any scale (Contrastive Clustering, Li et al., AAAI 2021).

The command line is the everyday way in (``ccscale --help``); from Python:

    import ccscale

    network = ccscale.load("exported")                       # what `ccscale export RUN exported` wrote
    images = ccscale.read_images(["a.jpg", "b.png"], network.size)     # (2, 3, size, size) in [0, 1]
    clusters, confidence = network.predict(images)           # (2,) int64, (2,) float32
    h, z, p = network(images)               # features (2, D), embeddings (2, d), soft assignments (2, K)

    # images in an array, by scikit-learn's interface
    clusters = ccscale.ContrastiveClusteringEstimator(10, random_state=0).fit_predict(array)

    ccscale.instance_loss(z_a, z_b)    # both over the global batch of all ranks, (n, d) and (n, K) a rank
    ccscale.cluster_loss(p_a, p_b)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccscale.clusters.lineage import open_lineage
    from ccscale.config import Config
    from ccscale.config.file import load_config
    from ccscale.data.image_files import read_images
    from ccscale.errors import InputError
    from ccscale.estimator import ContrastiveClusteringEstimator
    from ccscale.evaluate.evaluate import evaluate_run
    from ccscale.evaluate.predict import predict_run
    from ccscale.features.store import open_features
    from ccscale.loss import cluster_loss, instance_loss
    from ccscale.model.export import load
    from ccscale.model.network import ContrastiveClustering, Outputs
    from ccscale.train.train import train_run

# Imported when they are first used: the command line answers --help without waiting for torch.
_HOMES = {
    "Config": "ccscale.config",
    "ContrastiveClustering": "ccscale.model.network",
    "ContrastiveClusteringEstimator": "ccscale.estimator",
    "InputError": "ccscale.errors",
    "Outputs": "ccscale.model.network",
    "cluster_loss": "ccscale.loss",
    "evaluate_run": "ccscale.evaluate.evaluate",
    "instance_loss": "ccscale.loss",
    "load": "ccscale.model.export",
    "load_config": "ccscale.config.file",
    "open_features": "ccscale.features.store",
    "open_lineage": "ccscale.clusters.lineage",
    "predict_run": "ccscale.evaluate.predict",
    "read_images": "ccscale.data.image_files",
    "train_run": "ccscale.train.train",
}

__all__ = [
    "Config",
    "ContrastiveClustering",
    "ContrastiveClusteringEstimator",
    "InputError",
    "Outputs",
    "cluster_loss",
    "evaluate_run",
    "instance_loss",
    "load",
    "load_config",
    "open_features",
    "open_lineage",
    "predict_run",
    "read_images",
    "train_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ccscale' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
