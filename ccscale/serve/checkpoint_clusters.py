"""The clusters of a run or an exported network, as ``ccscale predict`` gives them."""

import numpy as np
from numpy.typing import NDArray

from ccscale.evaluate.assign import assign_batch
from ccscale.evaluate.basis import weights_of
from ccscale.evaluate.opened_run import OpenedRun
from ccscale.evaluate.postprocessing import Postprocessor
from ccscale.evaluate.reject import Reject
from ccscale.serve.answer import Answer, batch_of, refuse_channels


class CheckpointClusters:
    """The clusters of a checkpoint; see `answer.Answerer`."""

    def __init__(self, opened: OpenedRun, reject: Reject | None) -> None:
        refuse_channels(opened.network.settings)
        self.version = f"step-{opened.checkpoint.step:08d}"
        self.clusters = opened.network.k
        self.size = opened.network.size
        self.scaled_decode = opened.config.views.scaled_decode
        self._network = opened.network
        self._known = Postprocessor.of(opened, weights_of(opened.checkpoint), reject)

    def answer(self, images: NDArray[np.uint8]) -> list[Answer]:
        """Return the answers to images (n, size, size, 3), RGB."""
        assigned = self._known.apply(assign_batch(self._network, batch_of(images)))
        calibrated, names, reasons = assigned.calibrated, assigned.names, assigned.reasons
        return [
            Answer(
                id=int(assigned.clusters[i]),
                name=None if names is None else names[i],
                confidence=float(assigned.confidence[i]),
                calibrated=None if calibrated is None else float(calibrated[i]),
                reason=None if reasons is None else reasons[i],
                version=self.version,
            )
            for i in range(len(images))
        ]
