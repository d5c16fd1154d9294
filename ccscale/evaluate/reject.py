"""The argument of ``predict --reject``: which images are left without a cluster. Pure functions."""

from dataclasses import dataclass

CONFIDENCE = "confidence="
TOO_FAR = "too far"  # reason for a distant image; that of an ambiguous one names two clusters


@dataclass(frozen=True)
class Reject:
    """Which images to leave without a cluster; one of the two is set.

    Attributes
    ----------
    coverage
        The fraction of images like the run's own that gets a cluster, above 0 and at most 1.
    confidence
        The calibrated confidence below which an image is left without a cluster, between 0 and 1.
    """

    coverage: float | None = None
    confidence: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Reject":
        """Read ``.95`` or ``confidence=.6``.

        Raises
        ------
        ValueError
            With what is wrong.
        """
        by_confidence = text.startswith(CONFIDENCE)
        try:
            value = float(text.removeprefix(CONFIDENCE))
        except ValueError:
            value = -1.0
        if by_confidence and 0 <= value < 1:
            return cls(confidence=value)
        if not by_confidence and 0 < value <= 1:
            return cls(coverage=value)
        raise ValueError(
            f"{text!r} is neither a fraction of images to assign, such as .95, nor a minimum confidence, "
            "such as confidence=.6"
        )

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.coverage:g}" if self.confidence is None else f"{CONFIDENCE}{self.confidence:g}"
