"""What the studies of benchmark.py compare: a variant is a config with settings over it, and how it is scored.

    heads         both heads; instance head + k-means; cluster head alone             (paper, Table 4)
    augmentation  all of the config's operations, each left out, one view raw, none   (paper, Table 3)
    backbone      timm models                                                         (paper, Table 5)
    batch-size    global batches
    table2        the paper's six data sets                                           (paper, Table 2)
    demo          the demo's digits: the cluster head, and k-means on the features of the same run
    self-labelling  the config's stage, and as many epochs without it, both from one run

Published figures: Li et al., "Contrastive Clustering", AAAI 2021.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ccscale.config import Config, Views
from ccscale.config.file import load_config
from ccscale.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BACKBONES = ("resnet18", "resnet34", "resnet50")
SIZES = ("32", "64", "128", "256")

CLUSTER_HEAD, ON_FEATURES, ON_PIXELS = "cluster head", "k-means on features", "k-means on pixels"
SERVED = "cluster head that serves"
PIXEL_SIDE = 64  # k-means on the pixels of larger views takes them at this side

TABLE2 = {  # data set -> ACC, NMI, ARI
    "cifar10": (0.790, 0.705, 0.637),
    "cifar20": (0.429, 0.431, 0.266),
    "stl10": (0.850, 0.764, 0.726),
    "imagenet-10": (0.893, 0.859, 0.822),
    "imagenet-dogs": (0.429, 0.445, 0.274),
    "tiny-imagenet": (0.140, 0.340, 0.071),
}


@dataclass(frozen=True)
class Variant:
    """A row of a study's table.

    Attributes
    ----------
    name
        As the table has it.
    config
        A YAML file.
    overrides
        ``key=value`` settings over it.
    kind
        ``"run"``: a training run. ``"pixels"``, ``"untrained"``: k-means beside it, on the pixels and on the
        features of the backbone that was not trained.
    scored_by
        Whose clusters are scored.
    published
        ACC, NMI and ARI, where they are.
    goes_on_from
        The variant, of the same study and before it, whose finished run it goes on from; None: it begins anew.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    kind: str = "run"
    scored_by: str = CLUSTER_HEAD
    published: tuple[float, float, float] | None = None
    goes_on_from: str | None = None

    @property
    def folder(self) -> str:
        """Return the name of its folder."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")

    def load(self, run: Path, seed: int) -> Config:
        """Return the config of one of its runs."""
        return load_config(self.config, [*self.overrides, f"seed={seed}", f"run={run}"])


def heads(config: str, overrides: Sequence[str]) -> list[Variant]:
    """Compare both heads with each of them alone."""
    own = tuple(overrides)
    return [
        Variant("both heads", config, own),
        Variant("instance head + k-means", config, (*own, "loss.cluster_weight=0"), scored_by=ON_FEATURES),
        Variant("cluster head alone", config, (*own, "loss.instance_weight=0")),
    ]


# Operation -> whether views have it, and the setting that leaves it out.
OPERATIONS: dict[str, tuple[Callable[[Views], bool], str]] = {
    "crop": (lambda views: views.crop_scale is not None, "views.crop_scale=null"),
    "flip": (lambda views: views.flip > 0, "views.flip=0"),
    "rotation": (lambda views: views.rotate > 0, "views.rotate=0"),
    "shift": (lambda views: views.translate > 0, "views.translate=0"),
    "zoom": (lambda views: views.zoom != (1, 1), "views.zoom=[1, 1]"),
    "colour jitter": (
        lambda views: (
            views.jitter * views.strength > 0
            and max(views.brightness, views.contrast, views.saturation, views.hue) > 0
        ),
        "views.jitter=0",
    ),
    "grey": (lambda views: views.grey > 0, "views.grey=0"),
    "blur": (lambda views: views.blur > 0, "views.blur=0"),
}


def augmentation(config: str, overrides: Sequence[str]) -> list[Variant]:
    """Leave out each operation that the config has on; then all of them in one view, and in both."""
    _refuse(overrides, "views.raw")
    own = tuple(overrides)
    views = load_config(config, own).views
    left_out = [(name, off) for name, (has, off) in OPERATIONS.items() if has(views)]
    if not left_out or views.raw:
        raise InputError(f"{config} has no augmentation in both views: there is nothing to leave out")
    return [
        Variant("both views augmented", config, own),
        *(Variant(f"without {name}", config, (*own, off)) for name, off in left_out),
        Variant("one view raw", config, (*own, "views.raw=1")),
        Variant("none", config, (*own, "views.raw=2")),
    ]


def backbone(config: str, overrides: Sequence[str], names: Sequence[str]) -> list[Variant]:
    """Compare backbones."""
    return _values(config, overrides, "model.backbone", names)


def batch_size(config: str, overrides: Sequence[str], sizes: Sequence[str]) -> list[Variant]:
    """Compare global batches, at the config's epochs and learning rate."""
    return _values(config, overrides, "train.global_batch", sizes)


def self_labelling(config: str, overrides: Sequence[str]) -> list[Variant]:
    """Compare the config's self-labelling with as many epochs more without it, both from one run."""
    loaded = load_config(config, overrides)
    if not (more := loaded.stages.boost.epochs):
        raise InputError(f"{config} has no self-labelling: add stages.boost.epochs=N")
    own, before = tuple(overrides), f"{loaded.train.epochs} epochs"
    without = (*own, "stages.boost.epochs=0", f"train.epochs={loaded.train.epochs + more}")
    return [
        Variant(before, config, (*own, "stages.boost.epochs=0")),
        Variant(f"{more} more without it", config, without, goes_on_from=before),
        Variant(f"{more} more with self-labelling", config, own, scored_by=SERVED, goes_on_from=before),
    ]


def demo(out: Path, overrides: Sequence[str]) -> list[Variant]:
    """Score the demo's recipe in two ways, on shards of the digits that are made below `out`."""
    from ccscale.data.conversion.shards import make_shards
    from ccscale.data.sources.kinds import open_source
    from ccscale.demo import RECIPE

    _refuse(overrides, "data.shards")
    shards = out / "shards"
    make_shards(open_source("digits"), shards, progress=False)
    own = (*overrides, f"data.shards={shards}")
    return [Variant("demo", RECIPE, own, scored_by=scored_by) for scored_by in (CLUSTER_HEAD, ON_FEATURES)]


def table2(data: Path, overrides: Sequence[str], modern: bool) -> list[Variant]:
    """Return the paper's data sets whose shards are there."""
    _refuse(overrides, "data.shards")
    there = [name for name in TABLE2 if (data / name / "dataset.json").is_file()]
    if not there:
        raise InputError(
            f"{data} has shards of none of {', '.join(TABLE2)}: a folder of that name with its dataset.json each, "
            "as the heads of configs/*.yaml make them"
        )
    return [
        Variant(
            name,
            str(CONFIGS / f"{name}{'-modern' if modern else ''}.yaml"),
            (*overrides, f"data.shards={data / name}"),
            published=TABLE2[name],
        )
        for name in there
    ]


def baselines(variants: Sequence[Variant]) -> Iterator[Variant]:
    """Yield k-means on the pixels and on the untrained features, once for all variants where they are the same."""
    seen: set[tuple[str, str]] = set()
    several = len({variant.config for variant in variants}) > 1
    for kind in ("pixels", "untrained"):
        for variant in variants:
            config = load_config(variant.config, variant.overrides)
            model = config.model
            if config.data.features is not None:  # no pixels, and nothing to leave untrained
                if kind == "pixels" and variant is variants[0]:
                    yield replace(variant, scored_by=ON_FEATURES)
                continue
            what = f"{config.data.shards} {config.evaluated_splits} {config.views.size} {model.clusters}"
            name = ON_PIXELS
            if config.views.size > PIXEL_SIDE:
                name += f" ({PIXEL_SIDE} px)"
            if kind == "untrained":
                what += f" {model}"
                name = f"{ON_FEATURES}, {model.backbone} untrained"
            if (kind, what) not in seen:
                seen.add((kind, what))
                yield Variant(
                    f"{variant.name}: {name}" if several else name,
                    variant.config,
                    variant.overrides,
                    kind,
                    ON_PIXELS if kind == "pixels" else ON_FEATURES,
                )


def _values(config: str, overrides: Sequence[str], key: str, values: Sequence[str]) -> list[Variant]:
    _refuse(overrides, key)
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"{value} is named twice; name each value of {key} once")
    return [
        Variant(f"{key.rpartition('.')[2].replace('_', ' ')} {value}", config, (*overrides, f"{key}={value}"))
        for value in values
    ]


def _refuse(overrides: Sequence[str], key: str) -> None:
    if any(override.startswith(f"{key}=") for override in overrides):
        raise InputError(f"{key} is what this study sets: leave it out")
