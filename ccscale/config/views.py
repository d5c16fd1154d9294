"""What a random view of an image is."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ccscale.config.section import Fixed, Positive, Probability, Section


class Views(Section):
    """What a random view of an image is (paper, section 'Data augmentation'; torchvision's definitions)."""

    size: Fixed[int] = Field(224, ge=1, le=2**13, description="Side of a view, in pixels.")
    crop_scale: Fixed[tuple[float, float] | None] = Field(
        (0.08, 1.0),
        description="RandomResizedCrop: share of the image's area; null: the whole image, resized.",
    )
    crop_ratio: Fixed[tuple[float, float]] = Field(
        (3 / 4, 4 / 3), description="RandomResizedCrop: width to height of the crop."
    )
    flip: Fixed[Probability] = Field(0.5, description="Probability of a horizontal flip.")
    rotate: Fixed[float] = Field(
        0.0, ge=0, le=180, description="RandomAffine: up to this many degrees either way."
    )
    translate: Fixed[Probability] = Field(
        0.0, description="RandomAffine: shift of up to this share of the side."
    )
    zoom: Fixed[tuple[float, float]] = Field((1.0, 1.0), description="RandomAffine: range of the scale.")
    jitter: Fixed[Probability] = Field(0.8, description="Probability of the colour jitter.")
    strength: Fixed[float] = Field(
        0.5, ge=0, le=2, description="The s that multiplies the four jitter ranges."
    )
    brightness: Fixed[float] = Field(0.8, ge=0, description="ColorJitter's brightness, before the strength.")
    contrast: Fixed[float] = Field(0.8, ge=0, description="ColorJitter's contrast, before the strength.")
    saturation: Fixed[float] = Field(0.8, ge=0, description="ColorJitter's saturation, before the strength.")
    hue: Fixed[float] = Field(0.2, ge=0, le=0.5, description="ColorJitter's hue, before the strength.")
    grey: Fixed[Probability] = Field(0.2, description="Probability of the conversion to grey.")
    blur: Fixed[Probability] = Field(0.0, description="Probability of the Gaussian blur.")
    blur_kernel: Fixed[Positive] = Field(
        23, description="Side of the blur's kernel in pixels, an odd number."
    )
    blur_sigma: Fixed[tuple[float, float]] = Field(
        (0.1, 2.0), description="Range of the blur's sigma in pixels."
    )
    raw: Fixed[Literal[0, 1, 2]] = Field(
        0,
        description="How many of the two views are the whole image as it is, only resized: the paper's ablation "
        "(Table 3). 1: the second view; 2: both.",
    )
    scaled_decode: Fixed[bool] = Field(
        True, description="Decode a JPEG at the smallest DCT scale that serves both crops: faster."
    )

    @field_validator("crop_scale", "crop_ratio", "zoom", "blur_sigma")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("must be two numbers above 0, the smaller one first")
        return value

    @field_validator("blur_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd; {value + 1} is the next")
        return value

    @model_validator(mode="after")
    def _ranges(self) -> "Views":
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError("crop_scale is a share of the image's area: at most 1")
        if self.hue * self.strength > 0.5:
            raise ValueError(f"hue * strength is {self.hue * self.strength:g}, and may be at most 0.5")
        if self.blur > 0 and self.blur_kernel // 2 >= self.size:
            raise ValueError(
                f"blur_kernel {self.blur_kernel} is too large for size {self.size}: "
                f"at most {2 * self.size - 1} (about a tenth of the size is usual)"
            )
        return self
