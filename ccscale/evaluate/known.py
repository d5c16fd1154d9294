"""Adds calibrated confidences, rejections and names to the predictions of a batch, if the run has them."""

from dataclasses import dataclass

from ccscale.errors import InputError
from ccscale.evaluate.assign import Assigned
from ccscale.evaluate.cluster_names import ClusterNames
from ccscale.evaluate.naming import Called, called
from ccscale.evaluate.opened import OpenedRun
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.sureness import Sureness


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes
    ----------
    called
        What the clusters are called.
    sureness
        How sure it is; None where it was not evaluated.
    reject
        What is to be left without a cluster.
    """

    called: Called
    sureness: Sureness | None = None
    reject: Reject | None = None

    @classmethod
    def of(cls, opened: OpenedRun, weights: str, reject: Reject | None = None) -> "Known":
        """Return what is known of the head that serves.

        Parameters
        ----------
        opened
            The run, or the exported network.
        weights
            Of its checkpoint; see `basis.weights_of`.
        reject
            What is to be left without a cluster.

        Raises
        ------
        InputError
            If nothing tells what to reject.
        """
        exported = opened.config.run is None
        folder = opened.checkpoint.path if exported else opened.config.run_folder
        network = opened.network
        sureness = Sureness.load(folder)
        # Beside an exported network lies what was copied with it: its own hash is another one.
        if sureness is not None and not sureness.is_of(
            sureness.basis.weights if exported else weights, network.serving
        ):
            sureness = None
        if reject is not None and (sureness is None or sureness.reach is None):
            remedy = (
                "export a run that was evaluated" if exported else "run `ccscale evaluate` on the run first"
            )
            raise InputError(
                "--reject compares with the run's own images, which were not measured at step "
                f"{opened.checkpoint.step}: {remedy}"
            )
        if exported and (names := ClusterNames.load(folder)) is not None:
            weights = names.basis["weights"]
        elif sureness is not None:
            weights = sureness.basis.weights
        return cls(called(folder, weights, network.serving, network.k), sureness, reject)

    def tell(self, assigned: Assigned) -> Assigned:
        """Add to a batch what is known of it: what is rejected loses its cluster, clusters get names."""
        names = self.called.names
        if self.sureness is not None:
            assigned = self.sureness.judge(assigned, self.reject, names)
        return assigned if names is None else assigned.called(names)
