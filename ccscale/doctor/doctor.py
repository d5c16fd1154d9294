"""All checks of a machine, in order."""

import os
from collections.abc import Iterator

from ccscale.doctor.devices import check_devices
from ccscale.doctor.finding import Finding, tried
from ccscale.doctor.places import check_disk, check_shards
from ccscale.doctor.ranks import check_ranks
from ccscale.doctor.software import check_compiler, check_versions

REPORT = "reinstall ccscale in a new environment, and report this if it persists"


def examine(
    run: str | os.PathLike[str] = "runs", shards: str | None = None, ranks: int = 2
) -> Iterator[Finding]:
    """Run all checks and yield their findings.

    Parameters
    ----------
    run
        Folder in which runs will be kept; it need not exist. Default ``runs``.
    shards
        Folder or URL of shards to check. Default none.
    ranks
        Number of processes to connect. Default 2.
    """
    yield from tried("versions", check_versions, REPORT)
    yield from tried("devices", check_devices, REPORT)
    yield from tried("compiler", check_compiler, REPORT)
    yield from tried("disk", lambda: check_disk(run), REPORT)
    if shards is not None:
        yield from tried("shards", lambda: check_shards(shards), REPORT)
    yield from tried("ranks", lambda: check_ranks(ranks), REPORT)
