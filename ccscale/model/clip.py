"""The text tower of a user's CLIP model, through OpenCLIP: embeds words in the space of its image features.

A vision transformer of timm gives features as they are before CLIP's projection (D of the tower); the model's own
projection takes them to where the texts are. Features that are as wide as those of texts are taken as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ccscale.errors import InputError, did_you_mean, first_line

PATCHES = ("patch_embed.proj.weight", "conv1.weight")
"""The first tensor of an image tower, as timm and as OpenCLIP name it."""


@dataclass(frozen=True)
class Clip:
    """A CLIP model.

    Attributes
    ----------
    model
        OpenCLIP's.
    tokenizer
        Its own: texts to numbers.
    """

    model: Any
    tokenizer: Any

    @torch.inference_mode()
    def directions(self, words: Sequence[str], template: str) -> Tensor:
        """Return (words, E) of length 1: what each word says, in a sentence with it instead of ``{}``."""
        return self.model.encode_text(
            self.tokenizer([template.replace("{}", word) for word in words]), normalize=True
        ).float()

    @torch.inference_mode()
    def images(self, features: Tensor) -> Tensor:
        """Return features of images (n, D) where the texts are: (n, E) of length 1.

        Raises
        ------
        InputError
            If they are of no width that the model knows.
        """
        projection = getattr(self.model.visual, "proj", None)
        wide = self.model.text_projection_width
        if isinstance(projection, Tensor) and features.shape[1] == len(projection):
            features = features @ projection.float()
        elif features.shape[1] != wide:
            known = f" or {len(projection)}" if isinstance(projection, Tensor) else ""
            raise InputError(
                f"the features have {features.shape[1]} numbers, and the CLIP model's {wide}{known}: they are of "
                "another model; make them with `ccscale embed --backbone` and its image tower"
            )
        return normalize(features, dim=1)

    def is_tower(self, backbone: dict[str, Tensor]) -> bool | None:
        """Return whether a backbone's tensors are those of the model's images; None where names do not tell."""
        own = self.model.visual.state_dict()
        first = next((own[name] for name in PATCHES if name in own), None)
        other = next((backbone[name] for name in PATCHES if name in backbone), None)
        if first is None or other is None:
            return None
        return first.shape == other.shape and torch.allclose(first.float(), other.float(), atol=1e-3)


def load_clip(name: str, weights: Path) -> Clip:
    """Load a CLIP model from a file; nothing is fetched.

    Parameters
    ----------
    name
        OpenCLIP's name of it, such as ``ViT-B-32-quickgelu``, or a file of its config (``.json``).
    weights
        Its file of weights, image and text tower.

    Raises
    ------
    InputError
        If OpenCLIP is not installed, does not know the name, or the file is none of this model.
    """
    try:
        import open_clip
    except ImportError:
        raise InputError(
            "names by words need OpenCLIP, not installed here: pip install 'ccscale[clip]'"
        ) from None
    if name.endswith(".json"):
        open_clip.add_model_config(name)
        name = Path(name).stem
    if name not in open_clip.list_models():
        raise InputError(
            f"OpenCLIP has no model '{name}' (--clip){did_you_mean(name, open_clip.list_models()) or ''}"
        )
    if not weights.is_file():
        raise InputError(f"there is no file {weights} (--weights); OpenCLIP's are on the Hugging Face Hub")
    try:
        model = open_clip.create_model(name, pretrained=str(weights)).eval()
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # whatever OpenCLIP and torch make of a file of something else
        raise InputError(f"{weights} is not of the CLIP model '{name}': {first_line(error)}") from None
    with torch.inference_mode():
        model.text_projection_width = model.encode_text(tokenizer(["a"])).shape[1]
    return Clip(model, tokenizer)
