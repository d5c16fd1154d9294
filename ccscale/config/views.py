"""The augmentation of images."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ccscale.config.section import Fixed, Positive, Probability, Section

MOST_OPERATIONS = 8  # of RandAugment: each has its place among a view's random numbers

AS_IT_IS: dict[str, Any] = {  # no augmentation
    "crop_scale": None,
    "flip": 0.0,
    "rotate": 0.0,
    "translate": 0.0,
    "zoom": (1.0, 1.0),
    "jitter": 0.0,
    "grey": 0.0,
    "blur": 0.0,
    "rand_augment": 0,
    "cutout": 0.0,
    "intensity": 0.0,
    "noise": 0.0,
}


class View(Section):
    """Augmentation of one random view (paper, section 'Data augmentation'; operations as in torchvision)."""

    crop_scale: Fixed[tuple[float, float] | None] = Field(
        (0.08, 1.0),
        description="RandomResizedCrop: range of the crop's area as a fraction of the image. null: no crop, "
        "the whole image is resized.",
    )
    crop_ratio: Fixed[tuple[float, float]] = Field(
        (3 / 4, 4 / 3), description="RandomResizedCrop: range of the aspect ratio (width / height)."
    )
    flip: Fixed[Probability] = Field(0.5, description="Probability of a horizontal flip.")
    rotate: Fixed[float] = Field(
        0.0, ge=0, le=180, description="RandomAffine: maximum rotation in degrees, in either direction."
    )
    translate: Fixed[Probability] = Field(
        0.0, description="RandomAffine: maximum shift as a fraction of the side."
    )
    zoom: Fixed[tuple[float, float]] = Field((1.0, 1.0), description="RandomAffine: range of the scale.")
    jitter: Fixed[Probability] = Field(0.8, description="Probability of colour jitter.")
    strength: Fixed[float] = Field(
        0.5, ge=0, le=2, description="Factor s of the four colour jitter ranges below."
    )
    brightness: Fixed[float] = Field(
        0.8, ge=0, description="ColorJitter's brightness range, before the factor strength."
    )
    contrast: Fixed[float] = Field(
        0.8, ge=0, description="ColorJitter's contrast range, before the factor strength."
    )
    saturation: Fixed[float] = Field(
        0.8, ge=0, description="ColorJitter's saturation range, before the factor strength."
    )
    hue: Fixed[float] = Field(
        0.2, ge=0, le=0.5, description="ColorJitter's hue range, before the factor strength."
    )
    grey: Fixed[Probability] = Field(0.2, description="Probability of conversion to greyscale.")
    blur: Fixed[Probability] = Field(0.0, description="Probability of Gaussian blur.")
    blur_sigma: Fixed[tuple[float, float]] = Field(
        (0.1, 2.0), description="Range of the blur's sigma, in pixels."
    )
    rand_augment: Fixed[int] = Field(
        0,
        ge=0,
        le=MOST_OPERATIONS,
        description="RandAugment: number of operations per image, drawn from torchvision's fourteen (shear, "
        "shift, rotation, brightness, colour, contrast, sharpness, posterize, solarize, equalize, …) and "
        "applied between flip and jitter. 0: none.",
    )
    magnitude: Fixed[int] = Field(
        9, ge=0, le=30, description="RandAugment: strength of each operation, from 0 to 30."
    )
    cutout: Fixed[Probability] = Field(
        0.0,
        description="Cutout: side of a grey square at a random position, as a fraction of the view's side; it "
        "may extend past the edge. The square is 0 in images kept as stored (model.pixels). 0: none.",
    )
    intensity: Fixed[Probability] = Field(
        0.0,
        description="Only for images kept as stored (model.pixels): probability that each channel is "
        "multiplied by a random factor and shifted by a random offset of its own.",
    )
    scale_intensity: Fixed[float] = Field(
        0.2, ge=0, le=1, description="Maximum deviation from 1 of the factor of intensity."
    )
    shift_intensity: Fixed[float] = Field(
        0.1,
        ge=0,
        le=1,
        description="Maximum offset of intensity, in either direction, for values scaled to [0, 1].",
    )
    noise: Fixed[Probability] = Field(
        0.0,
        description="Only for images kept as stored (model.pixels): probability of Gaussian noise, independent "
        "per pixel and channel.",
    )
    noise_sigma: Fixed[tuple[float, float]] = Field(
        (0.01, 0.05), description="Range of the noise's standard deviation, for values scaled to [0, 1]."
    )

    @field_validator("crop_scale", "crop_ratio", "zoom", "blur_sigma", "noise_sigma")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("must be two numbers above 0, the smaller first")
        return value

    @property
    def of_8_bits(self) -> tuple[str, ...]:
        """Enabled operations that need 8-bit RGB."""
        return tuple(name for name in ("jitter", "grey", "rand_augment") if getattr(self, name))

    @property
    def of_channels(self) -> tuple[str, ...]:
        """Enabled operations that need images kept as stored."""
        return tuple(name for name in ("intensity", "noise") if getattr(self, name))

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError("crop_scale is a fraction of the image's area: at most 1")
        if self.hue * self.strength > 0.5:
            raise ValueError(f"hue * strength is {self.hue * self.strength:g}, but must be at most 0.5")
        return self


class Views(View):
    """Augmentation of the random views, and settings common to all views."""

    size: Fixed[int] = Field(224, ge=1, le=2**13, description="Side of a view in pixels.")
    blur_kernel: Fixed[Positive] = Field(23, description="Side of the blur's kernel in pixels; must be odd.")
    raw: Fixed[Literal[0, 1, 2]] = Field(
        0,
        description="Number of views that are the unaugmented image, only resized (ablation of the paper, "
        "Table 3). 1: the second view. 2: both.",
    )
    scaled_decode: Fixed[bool] = Field(
        True,
        description="Decode JPEGs at the smallest DCT scale that suffices for both crops, which is faster.",
    )

    @field_validator("blur_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd; {value + 1} is the next")
        return value

    @model_validator(mode="after")
    def _kernel(self) -> Self:
        if self.blur > 0 and self.blur_kernel // 2 >= self.size:
            raise ValueError(
                f"blur_kernel {self.blur_kernel} is too large for size {self.size}: "
                f"at most {2 * self.size - 1} (about a tenth of the size is usual)"
            )
        return self

    def replaced(self, view: View) -> "Views":
        """Return these settings with another augmentation; the settings common to all views stay.

        Raises
        ------
        ValueError
            If the blur's kernel is too large for the size.
        """
        return Views.model_validate(self.model_dump() | view.model_dump() | {"raw": 0})

    @property
    def plain(self) -> "Views":
        """The settings of a view that is the whole image, only resized."""
        return self.model_copy(update=AS_IT_IS | {"raw": 0})

    def each(self, count: int) -> "tuple[Views, ...]":
        """Return the settings of each of `count` views of an image, the last `raw` of them `plain`."""
        if not self.raw:
            return (self,) * count
        random = self.model_copy(update={"raw": 0})
        return (random,) * (count - self.raw) + (self.plain,) * self.raw


def weak_view(views: Views, weak: View | None) -> Views:
    """Return the settings of a weak view: the given one, or the data's own augmentation."""
    return views.model_copy(update={"raw": 0}) if weak is None else views.replaced(weak)


def strong_view(views: Views, strong: View | None) -> Views:
    """Return the settings of a strong view: the given one, or one derived from the data's own augmentation.

    The whole image instead of the crop, four operations of RandAugment and cutout instead of the colours (TCL,
    Li et al., IJCV 2022, section "Data augmentation"). Flip, rotation, shift and zoom stay, since they depend on
    the kind of images.
    """
    if strong is not None:
        return views.replaced(strong)
    colours = {"jitter": 0.0, "grey": 0.0, "blur": 0.0}
    changes = {"crop_scale": None, "rand_augment": 4, "magnitude": 9, "cutout": 0.5}
    return views.model_copy(update=colours | changes | {"raw": 0})
