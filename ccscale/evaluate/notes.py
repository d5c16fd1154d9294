"""Notes about the data that readers of the figures should know, as sentences. Pure functions."""

from collections.abc import Iterable, Sequence

from ccscale.config import Model
from ccscale.wording import agree, counted

NAMED = 10  # classes, or keys, that a sentence names


def other_data(name: str, own: str | None, same: bool) -> list[str]:
    """Note that images are not those that the run was trained on.

    Parameters
    ----------
    name
        The data set's.
    own
        Name of the data set that the run was trained on; None where it is not known.
    same
        Whether the shards are those that it was trained on.
    """
    if same or own is None:
        return []
    if name == own:
        return [f"these are other shards of the data set {name!r} than those that the run was trained on"]
    return [f"these are shards of the data set {name!r}; the run was trained on {own!r}"]


def no_choice(settings: Model) -> list[str]:
    """Note that none of several cluster heads of one K was chosen to serve."""
    heads = settings.heads + len(settings.centres)
    if heads == 1:
        return []
    return [
        f"none of {heads} cluster heads is chosen yet, and the first one serves: `ccscale evaluate RUN` chooses"
    ]


def no_neighbours(split: str) -> str:
    """Note that no image has a neighbour with a label in the split in which they are to be looked for."""
    return f"there are no nearest neighbours with a label in the split {split!r}"


def strange_keys(unknown: Sequence[str]) -> list[str]:
    """Note given labels whose keys are those of no image."""
    if not unknown:
        return []
    keys = ", ".join(unknown[:NAMED]) + (", …" if len(unknown) > NAMED else "")
    of = agree(len(unknown), "is", "are")
    return [f"{counted(len(unknown), 'given label')} {of} of no image of the run: {keys}"]


def unscored(images: int, undecodable: int, labels: int) -> str:
    """Return why nothing is measured against labels.

    Parameters
    ----------
    images, undecodable
        How many could be decoded, and how many could not.
    labels
        That the manifest counts among them.
    """
    cannot = "ACC, NMI, ARI and F cannot be measured"
    if not images:
        return f"{'None of the images can be decoded' if undecodable else 'There are no images'}: {cannot}."
    if labels:
        return f"Of {counted(labels, 'image')} with a label none can be decoded: {cannot}."
    return f"There are no labels: {cannot}."


def labels(images: int, labelled: int, present: Iterable[int], classes: Sequence[str]) -> list[str]:
    """Note labels that are missing, and classes that do not occur.

    Parameters
    ----------
    images, labelled
        How many there are, and how many of them have a label.
    present
        The labels that occur.
    classes
        The data set's.
    """
    if not labelled:
        return []
    notes = []
    if labelled < images:
        missing = images - labelled
        notes.append(
            f"{missing:,} of {images:,} images {agree(missing, 'has', 'have')} no label; the scores are over the "
            f"other {labelled:,}"
        )
    there = set(present)
    absent = [name for label, name in enumerate(classes) if label not in there]
    if absent:
        names = ", ".join(absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
        do = agree(len(absent), "does", "do")
        notes.append(f"{len(absent):,} of the {len(classes):,} classes {do} not occur here: {names}")
    return notes
