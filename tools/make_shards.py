#!/usr/bin/env python
"""Convert images to shards: the same as `ccscale shards make`."""

import sys

from ccscale.cli import entry

if __name__ == "__main__":
    sys.argv[1:1] = ["shards", "make"]
    entry()
