"""What a reader of the figures should know about the data, in sentences. Pure."""

from collections.abc import Iterable, Sequence

NAMED = 10  # classes that a sentence names


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
        notes.append(
            f"{images - labelled:,} of {images:,} images have no label; the scores are over the other {labelled:,}"
        )
    there = set(present)
    absent = [name for label, name in enumerate(classes) if label not in there]
    if absent:
        names = ", ".join(absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
        notes.append(f"{len(absent):,} of the {len(classes):,} classes do not occur here: {names}")
    return notes
