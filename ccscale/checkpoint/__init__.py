"""Checkpoints: written in the background, verified, committed, retained; found and loaded on any number of ranks.

On disk, below the run's folder::

    checkpoints/
      .staging/step-00001000/   being written; ignored by readers
      step-00001000/
        deepspeed/              what DeepSpeed saves and loads: weights, optimizer, our state (pickles)
        model.safetensors       the network for everybody else: evaluate, predict, export
        config.json
        COMMIT.json             step, ranks, config, versions, and size and SHA-256 of every file
      universal/step-00001000/  the same in DeepSpeed's universal format, made for another number of ranks

A checkpoint is complete if and only if its COMMIT.json exists and the hashes in it match. All of it, the marker
last, is written in the staging folder, flushed to disk and read back for the hashes. The commit is the rename of
the folder: a folder ``step-*`` without a marker is damaged, never merely interrupted.

The sequence of a save (`saver.Saver`), with one column per step of the run::

    all ranks   copy | train ...                      | train ...
    a thread         | write, flush, hash own files   |
    rank 0's         |                                | verify, export, mark, rename, delete old ones

Training waits only for the copy. Whether all ranks have written is part of the integers that the ranks sum at the
end of every step anyway, so no thread ever makes a collective call.

A resume needs weights, batch-norm statistics and the optimizer state (DeepSpeed's files); the step, which is the
position in the schedule; and the images known to be bad. It needs no state of a random generator: every draw
depends only on the seed and the position in the run (`philox.py`).

Pickles can run code when they are loaded: only the run's own are, and only if nobody else can write them (`trust`).
"""

from ccscale.checkpoint.conversion import load, make_universal, needs_universal, read_state
from ccscale.checkpoint.saver import Saver
from ccscale.checkpoint.search import Checkpoint, Search, choose, find, serving

__all__ = [
    "Checkpoint",
    "Saver",
    "Search",
    "choose",
    "find",
    "load",
    "make_universal",
    "needs_universal",
    "read_state",
    "serving",
]
