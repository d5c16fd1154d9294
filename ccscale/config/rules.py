"""What must hold between keys of several sections; each rule raises `ValueError` with what to set."""

from collections.abc import Collection, Sequence

from ccscale.config.data import Data, LossName, Phase
from ccscale.config.divisors import nearest_divisors
from ccscale.config.model import Model
from ccscale.config.pairs import Pairs
from ccscale.config.stages import Stages
from ccscale.config.train import Train
from ccscale.config.views import Views, strong_view, weak_view


def check_batch(data: Data, train: Train, model: Model) -> None:
    """Check how the global batch is divided, and what cannot train together."""
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
            "train.compile and model.grad_checkpointing exclude each other: a compiled backbone decides itself "
            "what is recomputed"
        )


def check_views(views: Views, model: Model, stages: Stages) -> None:
    """Check that views change no colours where images have none, nor intensities where they are of 8 bits."""
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
                f"{what}, and {place}.{view.of_8_bits[0]} changes red, green and blue of 8 bits: set {off}; for "
                "images of channels there are intensity and noise"
            )
        if not model.of_channels and view.of_channels:
            raise ValueError(
                f"{place}.{view.of_channels[0]} is of images of channels, and these are read as RGB of 8 bits: set "
                "it to 0, or model.pixels.scale to range or percentiles"
            )


def check_store(data: Data, pairs: Pairs, model: Model) -> None:
    """Check that what needs a feature store has one."""
    if pairs.of == "views" and pairs.neighbours is not None:
        raise ValueError("pairs.neighbours goes with pairs.of neighbours or both, and pairs.of is views")
    if data.features is not None:
        return
    if pairs.of != "views":
        raise _needs_store(
            f"pairs.of is {pairs.of}, and neighbours are kept in a feature store", " --neighbours 50"
        )
    if model.head_input == "centred":
        raise _needs_store("model.head_input is centred, by the mean of a feature store")
    if model.begin:
        begin = ", ".join(model.begin)
        raise _needs_store(f"model.begin is {begin}, clusters of a feature store", " --neighbours 25")
    if model.centres:
        raise _needs_store(
            f"model.centres is {', '.join(model.centres)}, and centres are found in a feature store"
        )


def _needs_store(why: str, option: str = "") -> ValueError:
    return ValueError(
        f"{why}: give data.features in place of data.shards (`ccscale embed SHARDS STORE{option}` makes one), or "
        "leave it out"
    )


def check_losses(phases: Sequence[Phase], data: Data, model: Model) -> None:
    """Check that each phase trains something, and that the heads that are asked for are trained."""
    losses = {name for phase in phases for name in phase.losses}
    if model.begin and "cluster" not in losses:
        raise ValueError(
            "model.begin is what cluster heads begin from, and none is trained: set loss.cluster_weight above "
            "0, or leave model.begin out"
        )
    of_embeddings = [kind for kind in model.centres if kind != "features"]
    if of_embeddings and "instance" not in losses:
        raise ValueError(
            f"model.centres has {of_embeddings[0]}, and the head that makes embeddings is not trained: set "
            f"loss.instance_weight above 0, or leave {of_embeddings[0]} out"
        )
    for number, phase in enumerate(phases, start=1):
        if not phase.losses:
            which = f" of phase {number} of data.phases" if data.phases else ""
            raise ValueError(
                f"all losses{which} have weight 0: set loss.instance_weight or loss.cluster_weight above 0"
            )


def check_boost(stages: Stages, losses: Collection[LossName], data: Data, model: Model) -> None:
    """Check what the self-labelling needs."""
    if not stages.boost.epochs:
        return
    if "cluster" not in losses:
        raise ValueError(
            "stages.boost trains a cluster head by its own labels, and none is trained: set "
            "loss.cluster_weight above 0, or stages.boost.epochs to 0"
        )
    if len(model.trained_clusters) > 1:
        raise ValueError(
            f"stages.boost labels by one cluster head, and there are {len(model.trained_clusters)}: set "
            "model.heads to 1 and model.clusters to one number, or stages.boost.epochs to 0"
        )
    if data.phases is not None and len(data.phases) > 1:
        raise ValueError(
            f"stages.boost takes epochs of one phase, and data.phases has {len(data.phases)}: set "
            "stages.boost.epochs to 0 and begin another run with it (train.start)"
        )


def check_growing(data: Data, train: Train, pairs: Pairs, model: Model, stages: Stages) -> None:
    """Refuse what has no meaning, or no length, where data grow."""
    if data.refresh is None:
        return
    needs_neighbours, remedy = "", ""
    if pairs.of != "views":
        needs_neighbours, remedy = f"pairs.of is {pairs.of}", "pairs.of to views"
    elif any(kind != "features" for kind in model.begin):
        needs_neighbours, remedy = f"model.begin is {', '.join(model.begin)}", "model.begin to [features]"
    if needs_neighbours:
        raise ValueError(
            f"data.refresh takes in features that are new, and {needs_neighbours}, which needs neighbours: a store "
            f"that grows has none until they are found anew. Set data.refresh to null, or {remedy}"
        )
    if data.vanished == "retire" and (data.features is not None or stages.boost.epochs):
        why = "a feature store keeps all that it was made of"
        if data.features is None:
            why = "stages.boost compares its clusters on the images that it began with"
        raise ValueError(f"data.vanished is retire, and {why}: set it to tell")
    if stages.boost.epochs and (data.refresh != "epoch" or train.max_steps is not None):
        raise ValueError(
            "stages.boost counts in epochs, which data that grow make longer: set data.refresh to epoch and "
            "train.max_steps to null, or stages.boost.epochs to 0"
        )
    if train.max_steps is None and (train.rate_depends_on_length or data.refresh != "epoch"):
        why = f"train.schedule {train.schedule} needs to know how long the run is"
        if not train.rate_depends_on_length:
            why = f"data.refresh {data.refresh} may end epochs before they are over"
        raise ValueError(
            f"{why}, and epochs become longer as the data grow: say it in steps (train.max_steps)"
        )
