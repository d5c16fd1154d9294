"""Saves the run if its data can no longer be read, during an evaluation or for the next batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ccscale import dist
from ccscale.errors import Fault, InputError


@contextmanager
def saved_if_data_fail(save: Callable[[], None], step: int) -> Iterator[None]:
    """If the data fail, save on all ranks together and end the run with a `Fault`.

    Parameters
    ----------
    save
        Saves the run, and waits for that; all ranks call it together.
    step
        Steps done.
    """
    try:
        yield
    except (Fault, InputError) as error:
        if dist.world() > 1 and not dist.is_of_all_ranks(error):
            raise  # this rank's own: the others are not here to save
        try:
            save()
            fault = Fault(f"{error}; the run is saved at step {step}: run the same command to resume")
        except Fault as unsaved:
            fault = Fault(f"{error}; and {unsaved}")
        fault.teller = error.teller
        raise fault from None
