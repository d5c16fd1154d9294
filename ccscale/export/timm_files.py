"""Exports only the backbone in timm's format: ``model.safetensors`` and ``config.json``.

::

    timm.create_model("local-dir:OUT", pretrained=True)            and hf-hub:OWNER/NAME, once it is there
    timm.create_model(NAME, checkpoint_path="OUT/model.safetensors", num_classes=0)

timm's own transform for it (`timm.data.create_transform`) resizes as ``ccscale predict`` does.
"""

import copy
from pathlib import Path

from ccscale.errors import InputError
from ccscale.model.backbone import NoBackbone
from ccscale.model.network import ContrastiveClustering
from ccscale.unimported import timm


def write_timm(network: ContrastiveClustering, folder: Path) -> None:
    """Write a network's backbone into an existing folder.

    Raises
    ------
    InputError
        If there is none, or timm would build another one.
    """
    if isinstance(network.backbone, NoBackbone):
        raise InputError("the network takes features and has no backbone for timm to load")
    if network.settings.stem == "small":
        raise InputError(
            "timm has no such backbone: model.stem is small, which changes the first convolution; use "
            "--format safetensors, onnx or torch-export"
        )
    backbone = copy.copy(network.backbone)
    known = dict(backbone.pretrained_cfg)  # type: ignore[arg-type]
    size = network.size
    args: dict[str, int] = {"img_size": size} if known.get("fixed_input_size") else {}
    channels = network.settings.in_chans
    args |= {"in_chans": channels} if channels != 3 else {}
    backbone.pretrained_cfg = known | {  # type: ignore[assignment]
        "num_classes": 0,
        "input_size": (channels, size, size),
        "test_input_size": None,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "test_crop_pct": None,
        "crop_mode": "squash",  # the aspect ratio is not kept
        "mean": tuple(network.mean.flatten().tolist()),
        "std": tuple(network.std.flatten().tolist()),
    }
    timm.models.save_for_hf(backbone, str(folder), model_args=args, safe_serialization=True)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
