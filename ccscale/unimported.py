"""Keeps optional imports of other packages out, if ccscale never calls what they are for.

timm imports W&B for its own summary, and DeepSpeed MLflow for its autotuner. Each takes a second or more of every
process that starts, for whoever has them installed. ccscale's own loggers import them when a run asks for them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unimported(*packages: str) -> Iterator[None]:
    """Let no import find these packages while the context lasts; those already imported stay as they are."""
    hidden = [name for name in packages if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with unimported("wandb"):
    import timm as timm
