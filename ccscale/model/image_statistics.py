"""Mean and standard deviation of images: the backbone's own for RGB, or those of the data for other channels."""

import torch
from torch import Tensor, nn

from ccscale.config import RANGES, Model
from ccscale.model.backbone import NoBackbone


def image_statistics(settings: Model, backbone: nn.Module) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel, (C,) each, of images in [0, 1]; 0 and 1 without `normalize`.

    Parameters
    ----------
    settings
        The config's section ``model``.
    backbone
        timm's.
    """
    count, pixels = settings.in_chans, settings.pixels
    if not settings.normalize or isinstance(backbone, NoBackbone):
        return torch.zeros(count), torch.ones(count)
    if not settings.of_channels:
        config: dict[str, tuple[float, ...]] = backbone.pretrained_cfg  # type: ignore[assignment]
        return torch.tensor(config["mean"]), torch.tensor(config["std"])
    if pixels.mean is None or pixels.std is None:  # not known before the data are read
        return torch.zeros(count), torch.ones(count)
    least, greatest = RANGES.get(pixels.type or "", (0.0, 1.0))
    low, high = (
        torch.tensor(each or (end,) * count, dtype=torch.float64)
        for each, end in ((pixels.low, least), (pixels.high, greatest))
    )
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (pixels.mean, pixels.std))
    return ((mean - low) / (high - low)).float(), (std / (high - low)).float()
