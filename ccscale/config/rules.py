"""Rules between keys of several sections. Each raises `ValueError` with what to set."""

from collections.abc import Collection, Sequence

from ccscale.config.data import Data, LossName, Phase
from ccscale.config.divisors import nearest_divisors
from ccscale.config.model import Model
from ccscale.config.pairs import Pairs
from ccscale.config.stages import Stages
from ccscale.config.train import Train
from ccscale.config.views import Views, strong_view, weak_view


def check_batch(data: Data, train: Train, model: Model) -> None:
    """Check how the global batch is divided, and settings that exclude each other."""
    batch = train.global_batch
    for key, divisor in (("data.lanes", data.lanes), ("train.micro_batch", train.micro_batch)):
        if divisor is not None and batch % divisor:
            raise ValueError(
                f"{key} {divisor} does not divide train.global_batch {batch}; the nearest that do are "
                + " and ".join(map(str, nearest_divisors(batch, divisor)))
            )
    if train.precision == "fp64" and train.zero == 0:
        raise ValueError("train.precision fp64 needs train.zero 1 or 2: DeepSpeed's ZeRO 0 refuses float64")
    if train.compile and model.grad_checkpointing:
        raise ValueError(
            "train.compile and model.grad_checkpointing cannot be combined: the compiler decides what to "
            "recompute"
        )


def check_views(views: Views, model: Model, stages: Stages) -> None:
    """Check that augmentations suit the images: colour operations need 8-bit RGB, intensity ones other images."""
    boost, places = stages.boost, {"views": views}
    if boost.epochs:
        places["stages.boost.weak"] = weak_view(views, boost.weak)
        places["stages.boost.strong"] = strong_view(views, boost.strong)
    for place, view in places.items():
        if model.of_channels and view.of_8_bits:
            what = f"model.in_chans is {model.in_chans}"
            if model.in_chans == 3:
                what = f"model.pixels.scale is {model.pixels.scale}"
            off = ", ".join(f"{place}.{name}=0" for name in view.of_8_bits)
            raise ValueError(
                f"{what}, but {place}.{view.of_8_bits[0]} works on 8-bit RGB only: set {off}. Images kept "
                "as stored have intensity and noise instead"
            )
        if not model.of_channels and view.of_channels:
            raise ValueError(
                f"{place}.{view.of_channels[0]} works only on images kept as stored, and these are read "
                "as 8-bit RGB: set it to 0, or model.pixels.scale to range or percentiles"
            )


def check_store(data: Data, pairs: Pairs, model: Model) -> None:
    """Check that settings that need a feature store have one."""
    if pairs.of == "views" and pairs.neighbours is not None:
        raise ValueError("pairs.neighbours needs pairs.of neighbours or both, and pairs.of is views")
    if data.features is not None:
        return
    if pairs.of != "views":
        raise _needs_store(
            f"pairs.of is {pairs.of}, and neighbours come from a feature store", " --neighbours 50"
        )
    if model.head_input == "centred":
        raise _needs_store("model.head_input is centred, which needs the mean of a feature store")
    if model.begin:
        begin = ", ".join(model.begin)
        raise _needs_store(f"model.begin is {begin}, which needs a feature store", " --neighbours 25")
    if model.centres:
        raise _needs_store(f"model.centres is {', '.join(model.centres)}, which needs a feature store")


def _needs_store(why: str, option: str = "") -> ValueError:
    return ValueError(
        f"{why}: set data.features instead of data.shards (`ccscale embed SHARDS STORE{option}` makes a "
        "store), or leave it out"
    )


def check_losses(phases: Sequence[Phase], data: Data, model: Model) -> None:
    """Check that each phase trains something, and that the required heads are trained."""
    losses = {name for phase in phases for name in phase.losses}
    if model.begin and "cluster" not in losses:
        raise ValueError(
            "model.begin initializes cluster heads, and none is trained: set loss.cluster_weight above "
            "0, or leave model.begin out"
        )
    of_embeddings = [kind for kind in model.centres if kind != "features"]
    if of_embeddings and "instance" not in losses:
        raise ValueError(
            f"model.centres includes {of_embeddings[0]}, but the instance head is not trained: set "
            f"loss.instance_weight above 0, or leave {of_embeddings[0]} out"
        )
    for number, phase in enumerate(phases, start=1):
        if not phase.losses:
            which = f" of phase {number} of data.phases" if data.phases else ""
            raise ValueError(
                f"all losses{which} have weight 0: set loss.instance_weight or loss.cluster_weight above 0"
            )


def check_boost(stages: Stages, losses: Collection[LossName], data: Data, model: Model) -> None:
    """Check the requirements of self-labelling."""
    if not stages.boost.epochs:
        return
    if "cluster" not in losses:
        raise ValueError(
            "stages.boost needs a trained cluster head, and none is trained: set loss.cluster_weight "
            "above 0, or stages.boost.epochs to 0"
        )
    if len(model.trained_clusters) > 1:
        raise ValueError(
            f"stages.boost needs exactly one cluster head, and there are {len(model.trained_clusters)}: "
            "set model.heads to 1 and model.clusters to one number, or stages.boost.epochs to 0"
        )
    if data.phases is not None and len(data.phases) > 1:
        raise ValueError(
            f"stages.boost needs epochs of one phase, and data.phases has {len(data.phases)}: set "
            "stages.boost.epochs to 0 and start a second run with it (train.start)"
        )


def check_growing(data: Data, train: Train, pairs: Pairs, model: Model, stages: Stages) -> None:
    """Refuse settings that do not work with growing data."""
    if data.refresh is None:
        return
    needs_neighbours, remedy = "", ""
    if pairs.of != "views":
        needs_neighbours, remedy = f"pairs.of is {pairs.of}", "pairs.of to views"
    elif any(kind != "features" for kind in model.begin):
        needs_neighbours, remedy = f"model.begin is {', '.join(model.begin)}", "model.begin to [features]"
    if needs_neighbours:
        raise ValueError(
            f"data.refresh adds new features, but {needs_neighbours}, which needs neighbours, and new "
            f"features have none until the search is run again: set data.refresh to null, or {remedy}"
        )
    if data.vanished == "retire" and (data.features is not None or stages.boost.epochs):
        why = "a feature store keeps the features of all its shards"
        if data.features is None:
            why = "stages.boost compares clusters on the images it started with"
        raise ValueError(f"data.vanished is retire, but {why}: set it to tell")
    if stages.boost.epochs and (data.refresh != "epoch" or train.max_steps is not None):
        raise ValueError(
            "stages.boost counts in epochs, which grow with the data: set data.refresh to epoch and "
            "train.max_steps to null, or stages.boost.epochs to 0"
        )
    if train.max_steps is None and (train.rate_depends_on_length or data.refresh != "epoch"):
        why = f"train.schedule {train.schedule} needs the length of the run"
        if not train.rate_depends_on_length:
            why = f"data.refresh {data.refresh} may end epochs early"
        raise ValueError(f"{why}, and epochs grow with the data: set the length in steps (train.max_steps)")
