"""All that is looked at of a machine, one after the other."""

import os
from collections.abc import Iterator

from ccscale.doctor.devices import check_devices
from ccscale.doctor.finding import Finding, tried
from ccscale.doctor.places import check_disk, check_shards
from ccscale.doctor.ranks import check_ranks
from ccscale.doctor.software import check_compiler, check_versions

REPORT = "install ccscale anew in an environment of its own, and report it if that does not help"


def examine(
    run: str | os.PathLike[str] = "runs", shards: str | None = None, ranks: int = 2
) -> Iterator[Finding]:
    """Yield what is found of a machine.

    Parameters
    ----------
    run
        The folder in which runs are to be; it need not be there.
    shards
        The folder or URL of some shards.
    ranks
        Processes that meet.
    """
    yield from tried("versions", check_versions, REPORT)
    yield from tried("devices", check_devices, REPORT)
    yield from tried("compiler", check_compiler, REPORT)
    yield from tried("disk", lambda: check_disk(run), REPORT)
    if shards is not None:
        yield from tried("shards", lambda: check_shards(shards), REPORT)
    yield from tried("ranks", lambda: check_ranks(ranks), REPORT)
