"""The layer groups of a backbone, as in timm: stem, blocks, and what follows them."""

from torch import nn

from ccscale.errors import InputError
from ccscale.unimported import timm


def layers_from_the_top(backbone: nn.Module, name: str) -> dict[str, int]:
    """Return the layer of each parameter, counted from the heads down: 1 for the last layer.

    That is timm's numbering for a model with a classifier, which has the place of the heads.

    Raises
    ------
    InputError
        If timm does not group its parameters.
    """
    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise InputError(
            f"timm does not group the layers of '{name}': leave train.layer_decay out, or choose another "
            "backbone (model.backbone)"
        )
    layers = timm.models.group_parameters(backbone, matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {parameter: last - layer + 1 for parameter, layer in layers.items()}
