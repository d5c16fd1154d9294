"""``python -m ccscale``, for launchers that start modules (torchrun -m, deepspeed --module)."""

from ccscale.cli import entry

if __name__ == "__main__":
    entry()
