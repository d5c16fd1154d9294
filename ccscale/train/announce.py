"""What training tells of itself: what is trained on what, as it starts; and when it ends, after the first steps.

::

    training on 1 rank: the CPU, 2 threads (torch sees no CUDA device)
    photos: 60,000 images of train; 234 steps of 256 images an epoch, 1,000 epochs: 234,000 steps
    taking the first step
    the first step took 4.1 s: the 233,999 that are left take at most 11 days 2 h, until Mon 07 Dec, 09:40
    warning: that is days; ...
    a step takes 2.9 s: the 233,989 that are left take about 7 days 20 h, until Fri 04 Dec, 03:20
    warning: that is days; ...
"""

import time
from collections.abc import Callable

import torch

from ccscale import dist
from ccscale.config import Config
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.shards.manifest import Manifest
from ccscale.progress import duration, say
from ccscale.wording import counted

LONG = 2 * 86400.0  # seconds: longer runs are warned of
WARM_UP = 10
"""Steps after the first that are measured where that one is another matter than the others."""


def introduce(
    config: Config, manifest: Manifest, schedule: PhasedSchedule, device: torch.device, stop: int
) -> None:
    """Tell on rank 0 what this run takes: devices, images, steps.

    Parameters
    ----------
    config, manifest, schedule
        The run's.
    device
        This rank's.
    stop
        The run's last step.
    """
    if dist.rank() > 0:
        return
    say(f"training on {counted(dist.world(), 'rank')}: {_name(device, config.train.device)}")
    images = sum(shard.nsamples for shard in manifest.select(config.data.splits))
    phases = f" in {len(schedule.phases)} phases" if len(schedule.phases) > 1 else ""
    splits, batch, steps = ", ".join(config.data.splits), schedule.global_batch, schedule.steps_per_epoch
    say(
        f"{manifest.name}: {images:,} images of {splits}; {counted(steps, 'step')} of {batch:,} images an "
        f"epoch{phases}, {_ends(config, steps, stop)}"
    )


def _name(device: torch.device, asked: str) -> str:
    """Return what people call a device, and how much of it each rank has."""
    each = " each" if dist.world() > 1 else ""
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}{each}"
    none = " (torch sees no CUDA device)" if asked == "auto" else ""
    return f"the CPU, {counted(torch.get_num_threads(), 'thread')}{each}{none}"


def _ends(config: Config, steps: int, stop: int) -> str:
    epochs = config.train.epochs
    said = f"{counted(epochs, 'epoch')}: {counted(epochs * steps, 'step')}"
    return said if stop == epochs * steps else f"{said}, of which train.max_steps takes {stop:,}"


def going_on(step: int, stop: int, cut_off: bool) -> str:
    """Return what is told of a run that was begun before; `cut_off`: while its first checkpoint was saved."""
    if step > stop:  # it was shortened
        return f"step {step} is done, and the run ends at {stop}: there is nothing left to do"
    why = ": there is nothing left to do" if step == stop else ""
    if cut_off:
        why = ": its first checkpoint was cut off while it was being saved"
    return f"going on from step {step} of {stop}{why}"


class Forecast:
    """Measures the first steps of a start, and tells how long they take and when the last is to be expected.

    The first one takes longer than the others, on a GPU or with a compiler many times as long: only where it is no
    more than slow does it say something about them, at most how long they take. So some more are measured.

    Every rank calls it alike: to measure, the device is waited for, twice in all.

    Parameters
    ----------
    start, stop
        Steps that are done, steps that there will be.
    even
        Whether the first step tells something about the others: nothing is compiled, tuned or put off.
    settle
        Waits for the steps that were handed to the device.
    """

    def __init__(self, start: int, stop: int, even: bool, settle: Callable[[], None]) -> None:
        self._start, self._stop, self._even, self._settle = start, stop, even, settle
        self._begun = time.monotonic()
        if start < stop and dist.rank() == 0:
            say("taking the first step")

    def step(self, step: int) -> None:
        """Note that a step was taken."""
        taken = step - self._start
        if taken not in (1, 1 + WARM_UP):
            return
        self._settle()
        seconds, left = time.monotonic() - self._begun, self._stop - step
        self._begun = time.monotonic()
        if dist.rank() > 0 or not left:
            return
        if taken == 1 and not self._even:
            say(f"the first step took {duration(seconds)}")
        elif taken == 1:
            self._tell(f"the first step took {duration(seconds)}", "at most", left, seconds)
        else:
            self._tell(f"a step takes {duration(seconds / WARM_UP)}", "about", left, seconds / WARM_UP)

    def _tell(self, what: str, about: str, left: int, each: float) -> None:
        """Say what is to be expected, and what to do where that is days."""
        seconds = each * left
        end = time.strftime("%a %d %b, %H:%M", time.localtime(time.time() + seconds))
        rest = f"the {left:,} that are left take" if left > 1 else "the last one takes"
        say(f"{what}: {rest} {about} {duration(seconds)}, until {end}")
        if seconds >= LONG:
            say(
                "warning: that is days; a GPU, more ranks, or a smaller model.backbone, views.size or train.epochs "
                "take less"
            )
