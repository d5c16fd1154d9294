"""Fills config keys about pixel values that are left open from the measurements stored with the shards."""

from ccscale.config import RANGES, Model
from ccscale.data.shards.manifest import Manifest
from ccscale.data.shards.manifest_file import PixelFacts
from ccscale.errors import InputError


def follow_pixels(model: Model, manifest: Manifest) -> Model:
    """Return the config's section ``model`` with the pixel statistics of a data set.

    Raises
    ------
    InputError
        If the shards have other channels or numbers than the config says, or neither says what they mean.
    """
    found, pixels = manifest.pixels, model.pixels
    if found is None:
        return model if not model.of_channels else _unmeasured(model, manifest)
    if not model.of_channels or model.in_chans != found.channels:
        wanted = f"model.in_chans={found.channels}"
        if found.channels == 3:
            wanted = (
                "model.pixels.scale=range"
                if model.in_chans == 3
                else "model.in_chans=3 model.pixels.scale=range"
            )
        has = (
            f"in_chans is {model.in_chans}"
            if model.in_chans != 3 or model.of_channels
            else "wants RGB of 8 bits"
        )
        raise InputError(
            f"the images in {manifest.root} are of {found.channels} channels of {found.type}, and model {has}: set "
            f"{wanted}"
        )
    if pixels.type not in (None, found.type):
        raise InputError(
            f"model.pixels.type is {pixels.type}, and the images in {manifest.root} are {found.type}: leave it out"
        )
    low, high = pixels.low, pixels.high
    if low is None or high is None:  # a feature store has no percentiles, and what follows from them
        measured = _ends(model, found)
        low, high = low or measured[0], high or measured[1]
    wanted_pixels = {
        "scale": pixels.scale or "range",
        "type": found.type,
        "low": low,
        "high": high,
        "mean": pixels.mean or found.mean,
        "shown": pixels.shown or found.shown,
        "std": pixels.std or tuple(each or 1.0 for each in found.std),  # of an empty channel it is 0
    }
    return model.model_copy(update={"pixels": pixels.model_copy(update=wanted_pixels)})


def facts_of(model: Model) -> PixelFacts | None:
    """Return the pixel settings for a network's config; None for 8-bit RGB."""
    pixels = model.pixels
    if not model.of_channels or pixels.type is None:
        return None
    unknown = (0.0,) * model.in_chans
    return PixelFacts(
        channels=model.in_chans,
        type=pixels.type,
        mean=pixels.mean or unknown,
        std=pixels.std or unknown,
        percentiles={},
        shown=pixels.shown or tuple(range(min(3, model.in_chans))),
    )


def _ends(model: Model, found: PixelFacts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the values of each channel that become 0 and 1."""
    if model.pixels.scale != "percentiles" and found.type in RANGES:
        least, greatest = RANGES[found.type]
        return (least,) * found.channels, (greatest,) * found.channels
    first, last = model.pixels.percentiles if model.pixels.scale == "percentiles" else (0.0, 100.0)
    low, high = found.percentiles[f"{first:g}"], found.percentiles[f"{last:g}"]
    # Of a channel that is hardly ever anything else than one number the percentiles may be the same.
    return low, tuple(b if b > a else a + 1 for a, b in zip(low, high, strict=True))


def _unmeasured(model: Model, manifest: Manifest) -> Model:
    """Return the section as it is, if it says all."""
    pixels, missing = model.pixels, []
    if pixels.type is None:
        missing.append("type")
    if pixels.type not in RANGES or pixels.scale == "percentiles":
        missing += [name for name in ("low", "high") if getattr(pixels, name) is None]
    if model.normalize:
        missing += [name for name in ("mean", "std") if getattr(pixels, name) is None]
    if missing:
        raise InputError(
            f"nothing was measured of the numbers of the images in {manifest.root}: make the shards with `ccscale "
            f"shards make … --channels {model.in_chans}`, or give model.pixels.{', model.pixels.'.join(missing)}"
        )
    return model
