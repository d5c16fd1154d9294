#!/usr/bin/env python
"""Convert images to shards: the same as `ccscale shards make`."""

import sys

from ccscale.arguments import IntermixedParser
from ccscale.data.commands import add_make_arguments, run_make
from ccscale.errors import Fault, InputError


def main() -> int:
    """Parse, convert, and say what is wrong in one sentence."""
    parser = IntermixedParser(description=__doc__, allow_abbrev=False)
    add_make_arguments(parser)
    try:
        return run_make(parser.parse_args())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Fault as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command again finishes the shards", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
