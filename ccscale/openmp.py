"""OpenMP's threads, with which PyTorch computes on a CPU: how long they wait in a loop before they sleep.

GNU's OpenMP, which comes with PyTorch, has them look 300,000 times or more for the next work. Where other processes
use the cores too, such as a loader worker, they take the time of the thread that all wait for.
"""

import os

SPINS = 10_000


def spin_briefly() -> None:
    """Have waiting threads sleep soon, unless the user has set how they wait.

    It holds for this process, if PyTorch is not imported yet, and for those that it starts.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
