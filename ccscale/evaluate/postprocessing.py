"""Adds calibrated confidences, rejections and names to the predictions of a batch, if the run has them."""

from dataclasses import dataclass

from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.cluster_names import ClusterNames
from ccscale.evaluate.naming import ResolvedNames, resolve_names
from ccscale.evaluate.opened_run import OpenedRun
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.reliability import Reliability


@dataclass(frozen=True)
class Postprocessor:
    """Completes predictions.

    Attributes
    ----------
    called
        Names of the clusters.
    reliability
        Calibration and rejection model; None if the run was not evaluated.
    reject
        Which images to leave without a cluster.
    """

    called: ResolvedNames
    reliability: Reliability | None = None
    reject: Reject | None = None

    @classmethod
    def of(cls, opened: OpenedRun, weights: str, reject: Reject | None = None) -> "Postprocessor":
        """Load what a run or an exported network has stored about its serving head.

        Parameters
        ----------
        opened
            The run or exported network.
        weights
            Hash of the checkpoint; see `basis.weights_of`.
        reject
            Which images to leave without a cluster.

        Raises
        ------
        InputError
            If there is no rejection model.
        """
        exported = opened.config.run is None
        folder = opened.checkpoint.path if exported else opened.config.run_folder
        network = opened.network
        reliability = Reliability.load(folder)
        # An exported network has a copied file, whose hash is that of the run's checkpoint.
        if reliability is not None and not reliability.is_of(
            reliability.basis.weights if exported else weights, network.serving
        ):
            reliability = None
        if reject is not None and (reliability is None or reliability.rejection is None):
            remedy = (
                "export a run that was evaluated" if exported else "run `ccscale evaluate` on the run first"
            )
            raise InputError(
                "--reject compares with the run's own images, which were not measured at step "
                f"{opened.checkpoint.step}: {remedy}"
            )
        if exported and (names := ClusterNames.load(folder)) is not None:
            weights = names.basis["weights"]
        elif reliability is not None:
            weights = reliability.basis.weights
        return cls(resolve_names(folder, weights, network.serving, network.k), reliability, reject)

    def apply(self, assigned: Assigned) -> Assigned:
        """Return a batch with calibrated confidences and names; rejected images lose their cluster."""
        names = self.called.names
        if self.reliability is not None:
            assigned = self.reliability.judge(assigned, self.reject, names)
        return assigned if names is None else assigned.called(names)
