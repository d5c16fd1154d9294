"""The exit codes of ccscale; 0 is success."""

FAULT = 1
"""A server that cannot be reached, a loss that is no number, a fault in the code."""
MISTAKE = 2
"""In what was asked: config, arguments, data."""
DRIFT = 3
"""Of `update --fail-on-drift`: new images are not like those from before; they are taken in."""
STOPPED = 75
"""On request, and saved: the same command goes on."""
LOST = 76
"""Another rank was lost: the same command goes on."""
INTERRUPTED = 130
"""By Ctrl-C, with nothing saved."""
