"""``python -m ccscale``, for launchers that start modules (torchrun -m, deepspeed --module)."""

import sys

from ccscale.cli import main

sys.exit(main())
