"""Chooses the pretrained backbone: the best one available on this machine.

a GPU, and weights that timm can fetch (or has fetched)   a vision transformer of DINOv2, or a ConvNeXt
a CPU                                                     EfficientNet-Lite0: from the extra `pretrained`, which
                                                          needs no network, or fetched by timm
"""

import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache

from huggingface_hub import constants, try_to_load_from_cache

from ccscale.config import Model, Pixels
from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.model.named_weights import EXTRA, NAMED, is_installed
from ccscale.unimported import timm

CPU_SIZE = 128  # of Lite0: a third of the work of 224 pixels
MOST_SIZE = 224  # 14 x 16: of patches of either size
LITE = "efficientnet-lite0"
HF_WEIGHTS = "model.safetensors"
WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class ChosenBackbone:
    """A backbone, and the images that it is shown.

    Attributes
    ----------
    backbone
        timm's name.
    weights
        The config's ``model.weights``; None where timm has them.
    size
        Side of the images in pixels.
    seen
        What it has seen, as far as that is known; "" where it is not.
    """

    backbone: str
    weights: str | None
    size: int
    seen: str

    def model(self, channels: int | None = None) -> Model:
        """Return the config's section ``model``, as far as the backbone goes.

        Parameters
        ----------
        channels
            Of the images; None: they are photographs.
        """
        model = Model(
            backbone=self.backbone,
            pretrained=self.weights is None,
            weights=self.weights,
            normalize=True,
            clusters=2,
        )
        if channels is None:
            return model
        return model.model_copy(update={"in_chans": channels, "pixels": Pixels(scale="percentiles")})

    def __str__(self) -> str:
        seen = f"; it has seen {self.seen}" if self.seen else ""
        return f"{self.backbone} at {self.size} pixels{seen}"


ON_A_GPU = (
    ChosenBackbone(
        "vit_base_patch14_reg4_dinov2.lvd142m", None, 224, "142 million images without labels (DINOv2)"
    ),
    ChosenBackbone(
        "convnext_base.dinov3_lvd1689m", None, 224, "1,689 million images without labels (DINOv3)"
    ),
    ChosenBackbone("convnext_tiny.in12k_ft_in1k", None, 224, "the labels of ImageNet-12k and ImageNet-1k"),
)
ON_A_CPU = (
    ChosenBackbone("tf_efficientnet_lite0", LITE, CPU_SIZE, "the labels of ImageNet-1k"),
    ChosenBackbone("tf_efficientnet_lite0.in1k", None, CPU_SIZE, "the labels of ImageNet-1k"),
)


def choose_backbone(device: str = "auto") -> ChosenBackbone:
    """Return the best pretrained backbone that can be had here.

    Parameters
    ----------
    device
        See ``train.device``.

    Raises
    ------
    InputError
        If there is none.
    """
    gpu = pick_device(device).type != "cpu"
    for chosen in (*ON_A_GPU, *ON_A_CPU) if gpu else ON_A_CPU:
        if is_installed(chosen.weights) if chosen.weights else _can_be_had(chosen):
            return chosen
    raise InputError(
        f"no pretrained network can be had here: timm's cannot be fetched, and none is installed; {EXTRA} brings a "
        "small one, or name one with --backbone NAME --weights FILE.safetensors"
    )


def named_backbone(name: str, weights: str | None, size: int | None, device: str = "auto") -> ChosenBackbone:
    """Return a backbone that was requested; at the size that it was made for, but at most `MOST_SIZE` pixels.

    On a CPU a convolutional one gets images of at most `CPU_SIZE` pixels.
    """
    known = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    own = MOST_SIZE if known is None else min(known.input_size[-1], MOST_SIZE)
    if known is not None and not known.fixed_input_size and pick_device(device).type == "cpu":
        own = min(own, CPU_SIZE)
    return ChosenBackbone(name, weights, size or own, NAMED[weights].seen if weights in NAMED else "")


def _can_be_had(chosen: ChosenBackbone) -> bool:
    """Return whether timm has fetched a backbone's weights before, or could fetch them now."""
    known = timm.get_pretrained_cfg(chosen.backbone)
    place = None if known is None else known.hf_hub_id
    return (place is not None and isinstance(try_to_load_from_cache(place, HF_WEIGHTS), str)) or hub_answers()


@cache
def hub_answers() -> bool:
    """Return whether the place that timm fetches weights from answers, within `WAIT_SECONDS`: it is asked once."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=WAIT_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
