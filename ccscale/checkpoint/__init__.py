"""Checkpoints: written behind training, verified, committed, retained; found and loaded at any number of ranks.

On disk, below the run's folder::

    checkpoints/
      .staging/step-00001000/   being written; no reader looks here
      step-00001000/
        deepspeed/              what DeepSpeed saves and loads: weights, optimizer, our state (pickles)
        model.safetensors       the network for everybody else: evaluate, predict, export
        config.json
        COMMIT.json             step, ranks, config, versions, and size and SHA-256 of every file
      universal/step-00001000/  the same in DeepSpeed's universal format, made for another number of ranks

A checkpoint is complete if and only if its COMMIT.json is there and the hashes in it hold. All of it, the marker
last, is written in the staging folder, flushed to the disk and read again for the hashes. The commit is the
renaming of the folder: a folder ``step-*`` without a marker is a damaged one, never one that was cut off.

How a save goes (`saver.Saver`), each step of the run one column::

    all ranks   copy | train ...                      | train ...
    a thread         | write, flush, hash own files   |
    rank 0's         |                                | verify, export, mark, rename, delete old ones

Training waits for the copy alone. That all ranks have written travels with the integers that the ranks add up at
the end of every step anyhow, so that no thread ever makes a collective call.

What a resume needs: weights, batch-norm statistics and the optimizer's state (DeepSpeed's files); the step, which
is the position in the schedule; the images known to be bad. No state of a random generator: every draw follows from
the seed and the place in the run (`philox.py`).

Pickles can run code when they are loaded: only the run's own are, and only if nobody else can write them (`trust`).
"""

from ccscale.checkpoint.conversion import load, make_universal, needs_universal
from ccscale.checkpoint.saver import Saver
from ccscale.checkpoint.search import Checkpoint, Search, choose, find

__all__ = [
    "Checkpoint",
    "Saver",
    "Search",
    "choose",
    "find",
    "load",
    "make_universal",
    "needs_universal",
]
