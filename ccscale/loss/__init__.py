"""The losses, computed exactly over the global batch of all ranks.

The contract for gradients: on every rank each loss returns the value of the *global* loss, and its gradient with
respect to the rank's inputs is W times the derivative of that value. An engine that averages parameter gradients
over the W ranks therefore steps along the exact gradient of the global loss.
"""

from ccscale.loss.cluster import cluster_loss
from ccscale.loss.instance import instance_loss
from ccscale.loss.label import label_loss
from ccscale.loss.temi import temi_loss

__all__ = ["cluster_loss", "instance_loss", "label_loss", "temi_loss"]
