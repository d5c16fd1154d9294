"""The learning rate as a pure function of the step: a resumed run has the rates of an uninterrupted one.

With rate r, final factor f, and of T steps w of warm-up and d of decay, step t = 0, 1, ... has::

    t < w                     r (t + 1) / w
    constant                  r
    cosine, t >= w            r (f + (1 - f) (1 + cos(pi (t - w) / (T - w))) / 2)
    wsd, t < T - d            r
    wsd, t >= T - d           r (f + (1 - f) (1 - (t - (T - d)) / d))

As in torchtitan, the first step is not wasted at a rate of 0, and step T, the first that is not taken, would have
r f. Cosine: Loshchilov and Hutter, "SGDR", 2017. wsd (warmup, stable, decay): Hu et al., "MiniCPM", 2024.
"""

import math
from typing import NamedTuple

from ccscale.config import Train

STAY = 0.8
"""Of a run under wsd, before the decay, where its length is not given: a fifth is enough (Hägele et al., 2024)."""


class Rates(NamedTuple):
    """The learning rates of a run.

    Attributes
    ----------
    schedule
        constant, cosine or wsd.
    rate
        Between warm-up and decay.
    final
        The final rate, as a factor of `rate`.
    warmup, decay
        Number of steps of each; decay only for wsd.
    steps
        Number of steps of the run.
    """

    schedule: str
    rate: float
    final: float
    warmup: int
    decay: int
    steps: int

    @classmethod
    def of(cls, train: Train, steps_per_epoch: int, steps: int) -> "Rates":
        """Return the rates of a run.

        Parameters
        ----------
        train
            The config's section.
        steps_per_epoch, steps
            In an epoch, and in the run. One that `train.max_steps` cuts short has its decay within its steps.
        """
        warmup = round(train.warmup_epochs * steps_per_epoch)
        if train.decay_epochs is None:
            decay = steps - math.floor(STAY * steps)
        else:
            decay = round(train.decay_epochs * steps_per_epoch)
        decay = max(min(decay, steps - warmup), 0)
        return cls(train.schedule, train.lr, train.final_lr, warmup, decay, steps)

    def at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if step < self.warmup:
            return self.rate * ((step + 1) / self.warmup)
        if self.schedule == "constant":
            return self.rate
        if self.schedule == "cosine":
            gone = (step - self.warmup) / max(self.steps - self.warmup, 1)
            left = (1 + math.cos(math.pi * min(gone, 1))) / 2
        else:
            left = min((self.steps - step) / max(self.decay, 1), 1)
        return self.rate * (self.final + (1 - self.final) * max(left, 0))


def averaging(decay: float, step: int) -> float:
    """Return the decay of the averaged weights at a step, counted from 0.

    So that the random initialization does not stay in them, they are nearly a plain mean at first:
    min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + step) / (10 + step))
