"""The losses of one step."""

from typing import NamedTuple

from torch import Tensor


class Losses(NamedTuple):
    """The losses of a step, scalars on the device; None: not computed."""

    loss: Tensor
    """The weighted sum."""
    instance_loss: Tensor | None
    cluster_loss: Tensor | None
    """In a step of self-labelling: the cross-entropy with the labels."""

    def detach(self) -> "Losses":
        """Return the values alone."""
        instances, clusters = (None if loss is None else loss.detach() for loss in self[1:])
        return Losses(self.loss.detach(), instances, clusters)
