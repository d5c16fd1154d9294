"""Numbers and names in sentences: singular and plural; a class by its name or its number."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun: ``1 image``, ``2,000 images``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agree(number: int, one: str, many: str) -> str:
    """Return the form of a verb that goes with a number: is or are, has or have."""
    return one if number == 1 else many


def class_name(classes: Sequence[str], label: int) -> str:
    """Return the name of a class, or its number where there are no names of this many."""
    return classes[label] if label < len(classes) else str(label)
