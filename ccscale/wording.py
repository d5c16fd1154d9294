"""Numbers in sentences: one image is, two images are."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun: ``1 image``, ``2,000 images``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agree(number: int, one: str, many: str) -> str:
    """Return the form of a verb that goes with a number: is or are, has or have."""
    return one if number == 1 else many
