"""What a run stores about the reliability of its predictions: calibration, distances of its images, cluster
names.

``ccscale evaluate`` on the run's own images writes it, ``predict`` and ``export`` use it:

    RUN/sureness.npz    basis, facts ()           JSON: see `basis.py`; pairs, labels, and the names
                        confidence, calibrated    see `calibration.py`
                        sample, distances, doubts, ranks    see `rejection.py`; not there for less than two images

On a feature store, images count by the features of the unaugmented image, not by the mean over views, as new
images will.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ccscale import atomic
from ccscale.array_types import Float32
from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned, evaluating
from ccscale.evaluate.basis import Basis
from ccscale.evaluate.calibration import Calibration
from ccscale.evaluate.given_labels import Names
from ccscale.evaluate.reject import TOO_FAR, Reject
from ccscale.evaluate.rejection import RejectionModel
from ccscale.evaluate.table import chosen_features
from ccscale.model.network import ContrastiveClustering

FILE = "sureness.npz"
FAR = 0.99  # with a least confidence: the rank in distance up to which an image is answered
BLOCK = 8_192  # rows that the heads take at a time


@dataclass(frozen=True)
class Reliability:
    """Calibration, rejection model and names of a run's clusters.

    Attributes
    ----------
    basis
        The network and the images from which it was computed.
    calibration
        Maps confidence to accuracy.
    rejection
        Fitted to the run's own images; None for less than two.
    names
        Names of the clusters, if labels were given.
    """

    basis: Basis
    calibration: Calibration
    rejection: RejectionModel | None
    names: Names | None = None

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        facts = {"pairs": self.calibration.pairs, "labels": self.calibration.labels}
        named = None if self.names is None else asdict(self.names)
        data = io.BytesIO()
        np.savez(
            data,
            basis=np.array(self.basis.to_bytes().decode()),
            facts=np.array(json.dumps(facts | {"names": named})),
            confidence=self.calibration.confidence,
            calibrated=self.calibration.calibrated,
            **(
                {}
                if self.rejection is None
                else {one.name: getattr(self.rejection, one.name) for one in fields(RejectionModel)}
            ),
        )
        return data.getvalue()

    @property
    def digest(self) -> str:
        """The SHA-256 of the content."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write it into a run's folder."""
        atomic.write_bytes(folder / FILE, self.to_bytes())

    @classmethod
    def load(cls, folder: Path) -> "Reliability | None":
        """Read it; None if there is none.

        Raises
        ------
        InputError
            If it is damaged.
        """
        path = folder / FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                facts, basis = json.loads(str(arrays["facts"])), Basis.parse(str(arrays["basis"]))
                if basis is None:
                    raise ValueError("it does not say what it was made from")
                rejection = (
                    RejectionModel(*(arrays[one.name] for one in fields(RejectionModel)))
                    if "sample" in arrays
                    else None
                )
                corners = arrays["confidence"], arrays["calibrated"]
                named = facts["names"]
                names = None if named is None else Names(**{key: tuple(row) for key, row in named.items()})
                return cls(basis, Calibration(*corners, facts["pairs"], facts["labels"]), rejection, names)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} cannot be read ({error}); delete it, and `ccscale evaluate` recreates it"
            ) from None

    def is_of(self, weights: str, head: int) -> bool:
        """Return whether it belongs to a network with that serving head."""
        return (self.basis.weights, self.basis.head) == (weights, head)

    def judge(
        self, assigned: Assigned, reject: Reject | None = None, names: Sequence[str | None] | None = None
    ) -> Assigned:
        """Add calibrated confidences to a batch; rejected images lose their cluster.

        The reasons use the clusters' `names` (K,), if there are any.
        """
        bad = assigned.batch.bad
        calibrated = np.where(bad, 0, self.calibration(assigned.confidence)).astype(np.float32)
        judged = replace(assigned, calibrated=calibrated)
        if reject is not None:
            reasons = self._reasons(judged, reject, names)
            clusters = np.where([reason is not None for reason in reasons], -1, judged.clusters)
            judged = replace(judged, clusters=clusters, reasons=reasons)
        return judged

    def _reasons(
        self, assigned: Assigned, reject: Reject, names: Sequence[str | None] | None
    ) -> list[str | None]:
        """Return why each image is rejected; None for those that are not."""
        assert self.rejection is not None
        far, doubtful = self.rejection.rank(chosen_features(assigned, "backbone"), assigned.confidence)
        if reject.coverage is not None:
            limit = self.rejection.limit(reject.coverage)
            is_far, is_doubtful = far > limit, doubtful > limit
        else:
            assert assigned.calibrated is not None
            is_far, is_doubtful = far > FAR, assigned.calibrated < np.float32(reject.confidence)
        return [
            None
            if bad
            else TOO_FAR
            if too_far
            else _between(int(first), int(second), names)
            if doubt
            else None
            for bad, too_far, doubt, first, second in zip(
                assigned.batch.bad, is_far, is_doubtful, assigned.clusters, assigned.second, strict=True
            )
        ]


def _between(first: int, second: int, names: Sequence[str | None] | None) -> str:
    called = [str(one) if names is None else names[one] or str(one) for one in (first, second) if one >= 0]
    return f"between {' and '.join(called)}" if len(called) > 1 else f"not sure of {called[0]}"


@torch.inference_mode()
def assign_features(network: ContrastiveClustering, features: Float32) -> tuple[NDArray[np.int64], Float32]:
    """Return cluster and confidence, (n,) each, for features (n, D)."""
    clusters, confidence = np.empty(len(features), np.int64), np.empty(len(features), np.float32)
    with evaluating(network):
        for start in range(0, len(features), BLOCK):
            block = slice(start, start + BLOCK)
            rows = torch.from_numpy(features[block]).to(network.device, network.dtype)
            largest, of = network.heads_of(rows).assignments.max(dim=1)
            clusters[block], confidence[block] = of.cpu().numpy(), largest.float().cpu().numpy()
    return clusters, confidence
