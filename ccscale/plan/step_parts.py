"""The times of the parts of a step on one device: measured here, or read from a file of another machine."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ccscale.config import Config, LossName
from ccscale.data.images.views import VIEWS
from ccscale.device import float32_products, pick_device
from ccscale.engine.adapter import Engine
from ccscale.engine.build import weight_dtype
from ccscale.errors import InputError
from ccscale.features.batches import Batch
from ccscale.plan.fit import with_batch
from ccscale.plan.pace import set_up_alone
from ccscale.process_group import process_group
from ccscale.rank_environment import RankEnvironment
from ccscale.train.feed import Feed
from ccscale.train.step import Stepper, take_losses

WARM_UP, STEPS = 3, 7


@dataclass(frozen=True)
class StepParts:
    """Seconds of the parts of a step on one rank; the losses are those of its own rows.

    Attributes
    ----------
    device
        Which it is.
    images
        Of a step.
    views, forward, backward, optimizer
        Colour and blur; the network, both ways, without the losses; Adam, and what looks at gradients.
    instance_forward, instance_backward
        Of the instance loss, whatever the number of columns.
    block_forward, block_backward
        Of the instance loss: of one rank's rows against the rows of another, or its own.
    cluster_forward, cluster_backward
        Of the cluster loss.
    host
        Until a GPU has been told of all of it; 0 on a CPU.
    """

    device: str
    images: int
    views: float
    forward: float
    instance_forward: float
    block_forward: float
    cluster_forward: float
    cluster_backward: float
    instance_backward: float
    block_backward: float
    backward: float
    optimizer: float
    host: float = 0.0

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return not self.device.startswith("cpu")

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def read_parts(path: str) -> StepParts:
    """Read the parts that `ccscale plan --cluster --json` has printed on another machine.

    Raises
    ------
    InputError
        If the file cannot be read, or is none.
    """
    adapter = TypeAdapter(dict[str, Any])
    try:
        with open(path, "rb") as file:
            whole = adapter.validate_json(file.read())
        return TypeAdapter(StepParts).validate_python(whole.get("parts", whole))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{path} does not hold the parts of a step ({where}: {first['msg']}); "
            "`ccscale plan CONFIG --cluster --json` prints them"
        ) from None


def measure_parts(config: Config, images: int) -> StepParts:
    """Take some steps of a run on this machine's device, as one rank with so many images.

    The loader is not waited for: all steps are on one batch.

    Raises
    ------
    InputError
        If the data are not there, or the device.
    """
    config = scaled_config(config, images)
    device = pick_device(config.train.device)
    with process_group(RankEnvironment(), device), float32_products(device, config.train.tf32):
        setup = set_up_alone(config, device)
        with closing(Feed(setup.batches, device)) as feed:
            feed.fetch_first()
            feed.check()
            return parts_of_step(setup.config, setup.engine, feed.batch, device)


def parts_of_step(config: Config, engine: Engine, batch: Batch, device: torch.device) -> StepParts:
    """Run steps on one batch on one rank, with the losses of the last phase, and measure their parts."""
    clock, images, by = _Clock(device), config.train.global_batch, config.phases[-1].losses
    stepper = Stepper(config, engine, device, clock.note)
    looked, wholes, hosts = [], [], []
    for _ in range(WARM_UP + STEPS):
        clock.begin(looks=True)
        stepper.take(batch, by)
        looked.append(clock.end())
        begun = clock.begin(looks=False)
        stepper.take(batch, by)
        hosts.append(time.perf_counter() - begun)
        wholes.append(sum(clock.end().values()))
    found = {part: min(one[part] for one in looked[WARM_UP:]) for part in looked[-1]}
    # To look at each part makes the device idle between them: they are as long together as when nobody looks.
    scale = min(wholes[WARM_UP:]) / sum(found.values())
    losses = {name: _losses(config, images, name, device) for name in by}
    none = (0.0, 0.0)
    (forward, backward), (more_forward, more_backward) = losses.get("instance", (none, none))
    cluster, _ = losses.get("cluster", (none, none))
    # Twice the rows are four times the products.
    blocks = _times(device) ** 2 - 1
    block_forward, block_backward = (
        max(0.0, min((more - one) / blocks, one))
        for one, more in ((forward, more_forward), (backward, more_backward))
    )
    # In micro-batches the losses' own way back is a part of theirs.
    theirs = backward + cluster[1] if config.micro_batches == 1 else 0.0
    return StepParts(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        images=images,
        views=found["views"] * scale,
        forward=found["forward"] * scale,
        instance_forward=forward - block_forward,
        block_forward=block_forward,
        cluster_forward=cluster[0],
        cluster_backward=cluster[1],
        instance_backward=backward - block_backward,
        block_backward=block_backward,
        backward=max(0.0, found["backward"] * scale - theirs),
        optimizer=found["optimizer"] * scale,
        host=min(hosts[WARM_UP:]) if device.type == "cuda" else 0.0,
    )


def scaled_config(config: Config, global_batch: int) -> Config:
    """Return the config with another global batch, in as many micro-batches."""
    count = config.micro_batches
    config = with_batch(config, global_batch, None if count == 1 else max(1, global_batch // count))
    return config.model_copy(update={"data": config.data.model_copy(update={"lanes": None})})


class _Clock:
    """Adds up the seconds of a step's parts; `looks` at each of them, for which the device is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._looks, self._part = device, True, ""
        self._since, self._seconds = 0.0, Counter[str]()

    def begin(self, looks: bool) -> float:
        self._looks, self._seconds = looks, Counter()
        self._part, self._since = "optimizer", self._now()  # the guard's look at the weights
        return self._since

    def note(self, part: str) -> None:
        if self._looks:
            now = self._now()
            self._seconds[self._part] += now - self._since  # type: ignore[assignment]
            self._part, self._since = part, now

    def end(self) -> Counter[str]:
        self._seconds[self._part] += self._now() - self._since  # type: ignore[assignment]
        return self._seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _losses(
    config: Config, images: int, name: LossName, device: torch.device
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the seconds of a loss forward and backward, at a rank's images and at `_times` as many."""
    kind = weight_dtype(config.train)
    clusters, half = config.model.trained_clusters, config.train.precision == "bf16"

    def at(rows: int) -> tuple[float, float]:
        def draw(width: int) -> Tensor:
            return torch.randn(rows, width, dtype=kind, device=device)

        z = torch.nn.functional.normalize(draw(config.model.embedding)).requires_grad_()
        heads = [draw(width).softmax(dim=1).requires_grad_() for width in clusters]
        targets = [p.detach() for p in heads]
        shares = torch.full((sum(clusters),), 1 / sum(clusters), dtype=kind, device=device)
        found = []
        for _ in range(WARM_UP + STEPS):
            forward, losses = _timed(
                device, lambda: take_losses(config.loss, z, heads, [name], targets, shares, half)
            )
            backward, _ = _timed(device, losses.loss.backward)
            found.append((forward, backward))
        return min(one for one, _ in found[WARM_UP:]), min(one for _, one in found[WARM_UP:])

    return at(VIEWS * images), at(_times(device) * VIEWS * images)


def _times(device: torch.device) -> int:
    """Return how many times a rank's rows show what products cost; on a GPU few are launched as fast as none."""
    return 8 if device.type == "cuda" else 2


def _timed(device: torch.device, call: Callable[[], Any]) -> tuple[float, Any]:
    clock = _Clock(device)
    clock.begin(looks=False)
    out = call()
    return sum(clock.end().values()), out
