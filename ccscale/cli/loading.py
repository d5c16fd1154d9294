"""What is told while PyTorch is loaded, which takes seconds."""

import sys

from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment


def say_loading() -> None:
    """Tell what the silence is that comes next."""
    if "torch" not in sys.modules and RankEnvironment.read().rank == 0:
        say("loading PyTorch")
