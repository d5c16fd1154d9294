"""The backbone that computes features: in evaluation mode, from timm or from a run, with all that identifies it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ccscale import atomic
from ccscale.config import Model
from ccscale.evaluate.opened_run import run_and_checkpoint, settings_and_export
from ccscale.features.listing import Dtype
from ccscale.features.store_config import BACKBONE
from ccscale.model.backbone import build_backbone
from ccscale.model.export import is_export, load
from ccscale.model.fingerprint import fingerprint
from ccscale.model.folding import folded
from ccscale.model.image_statistics import image_statistics
from ccscale.model.named_weights import NAMED
from ccscale.model.trial import try_backbone
from ccscale.unimported import timm

CONFIG = "config.json"
RANDOM = "random"  # instead of weights: for trying things out
KEPT = (
    "stem",
    "normalize",
    "drop_path",
    "dropout",
)  # of the config's section model, beside the backbone's name

KEPT_OF_CHANNELS = ("in_chans", "pixels")  # and where images are no RGB of 8 bits
_AUTOCAST = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Backbone:
    """A backbone on its device.

    Attributes
    ----------
    module
        (m, C, size, size) -> (m, D), in evaluation mode.
    settings
        The config's section ``model``.
    size
        Side of the images in pixels.
    width
        D.
    origin
        Where the weights come from, for people.
    mean, std
        Of images, (C, 1, 1), as timm or the config has them.
    quick
        What gives the module's features faster: on a CPU without its batch norm (`model.folding`).
    """

    module: nn.Module
    settings: Model
    size: int
    width: int
    origin: str
    mean: Tensor
    std: Tensor
    quick: nn.Module

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.module.parameters()).device

    @property
    def weights(self) -> dict[str, Tensor]:
        """Its state dict, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}

    @property
    def kept_settings(self) -> dict[str, Any]:
        """What it depends on beside its name and weights, as JSON."""
        kept = {name: getattr(self.settings, name) for name in KEPT}
        if self.settings.of_channels:  # a store of RGB of 8 bits has no such entries, nor had it in 0.1
            kept |= self.settings.model_dump(mode="json", include=set(KEPT_OF_CHANNELS))
        return kept

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its weights."""
        return fingerprint(self.weights)

    @torch.inference_mode()
    def features(self, images: Tensor, dtype: Dtype) -> Tensor:
        """Return the features (m, D) of images (m, C, size, size) in [0, 1].

        On a GPU the network computes in the precision that its features are kept in, on a CPU in float32.
        """
        if self.settings.normalize:
            images = (images - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        if images.is_cuda and dtype in _AUTOCAST:
            with torch.autocast("cuda", _AUTOCAST[dtype]):
                return self.quick(images)
        return self.quick(images)

    def save(self, folder: Path, beside: Path) -> None:
        """Write weights and settings into a store, each atomically: a run on it can be exported.

        They are written in a folder `beside` first, which is removed in the end: safetensors leaves files of its
        own behind where it is killed.
        """
        beside.mkdir(exist_ok=True)
        part = beside / BACKBONE
        part.unlink(missing_ok=True)
        part.touch()
        mode = part.stat().st_mode
        save_file(self.weights, part, metadata={"format": "pt"})  # for the owner's eyes alone
        part.chmod(mode)
        atomic.sync_file(part)
        part.replace(folder / BACKBONE)
        content = {
            "format": "ccscale-backbone",
            "version": 1,
            "model": {"backbone": self.settings.backbone, **self.kept_settings},
            "image": {"size": self.size},
        }
        atomic.write_bytes(folder / CONFIG, (json.dumps(content, indent=1) + "\n").encode())


def backbone_of_run(run: str | Path, checkpoint: str, size: int | None, device: torch.device) -> Backbone:
    """Return the backbone of a run, as one of its checkpoints has it, or of an exported network.

    Raises
    ------
    InputError
        If it is no run, has no such checkpoint, or its backbone does not take images of the size.
    """
    find = settings_and_export if is_export(Path(run)) else run_and_checkpoint
    config, found = find(Path(run), checkpoint)
    network = load(found.path, device)
    size = size or network.size
    settings = config.model.bare
    width = try_backbone(settings, size).width
    origin = f"{run}, step {found.step}"
    return _ready(network.backbone, settings, size, width, origin, device)


def backbone_of_timm(
    settings: Model, size: int | None, seed: int, device: torch.device, weights: str | None = None
) -> Backbone:
    """Return a backbone of timm.

    Parameters
    ----------
    settings
        The config's section ``model``.
    size
        Side of the images in pixels; by default what the model was made for.
    seed
        Of random weights.
    device
        Where it goes.
    weights
        In place of what `settings` say: a file, a name, or ``random``; None: as they say.

    Raises
    ------
    InputError
        If it cannot be built, or its weights cannot be had.
    """
    if weights is not None:
        value = None if weights == RANDOM else weights
        settings = settings.model_copy(update={"weights": value, "pretrained": False})
    if size is None:
        known = timm.get_pretrained_cfg(settings.backbone.partition(".")[0], allow_unregistered=True)
        size = known.input_size[-1] if known is not None else 224
    width = try_backbone(settings.bare, size).width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_backbone(settings, size)
    return _ready(module, settings, size, width, _origin(settings), device)


def _origin(settings: Model) -> str:
    """Return where weights come from, in a few words."""
    if settings.weights in NAMED:
        return f"{settings.weights}: {NAMED[settings.weights].seen}"
    if settings.weights is not None:
        return settings.weights
    return (
        "timm's pretrained weights"
        if settings.pretrained
        else f"{RANDOM} weights: of no use but to try things"
    )


def _ready(
    module: nn.Module, settings: Model, size: int, width: int, origin: str, device: torch.device
) -> Backbone:
    mean, std = (each.to(device).view(-1, 1, 1) for each in image_statistics(settings, module))
    module = module.float().to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    quick = folded(module, size, settings.in_chans) if device.type == "cpu" else module
    return Backbone(module, settings, size, width, origin, mean, std, quick)
