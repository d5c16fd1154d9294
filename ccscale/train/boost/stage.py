"""The self-labelling stage of a run: its steps, checks and state; see the package."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.config import Config, LossName
from ccscale.data.order.stages import BoostSteps
from ccscale.device import send
from ccscale.engine.guard import Verdict
from ccscale.features.batches import Batch
from ccscale.train.boost.calibration import Calibrator
from ccscale.train.boost.given import GivenClasses
from ccscale.train.boost.guards import Check, best, of_labels, reason_to_end, reason_to_wait
from ccscale.train.boost.labels import LastingLabels
from ccscale.train.losses import Losses
from ccscale.train.step import Stepper

KEY = "boost"
"""Under which a checkpoint's state has what is kept."""


def as_begun(config: Config, state: Mapping[str, Any]) -> Config:
    """Return the config of a run whose newest checkpoint has kept something: its stage goes on as it was begun."""
    if not state:
        return config
    boost = config.stages.boost
    # What holds where nothing is told of them.
    earlier = {"cluster_weight": 0.0, "lr": boost.lr or config.train.lr, "settled": 0.0}
    boost = boost.model_copy(update={name: state.get(name, value) for name, value in earlier.items()})
    return config.model_copy(update={"stages": config.stages.model_copy(update={"boost": boost})})


class BoostStage:
    """Takes the steps of one rank, and judges the stage; all ranks call its methods together.

    Parameters
    ----------
    config, steps, stepper
        The run's.
    images
        Returns how many samples of the data that are trained on have a number at a step.
    state
        What the newest checkpoint has kept; nothing before the stage.
    given
        Labels that a user gives; matched with clusters when all images have been looked at.

    Attributes
    ----------
    steps
        When it is.
    begun
        The step from which it trains by labels, where it was found that the run is ready.
    ended
        Why it was ended before its last step, if it was: the run goes on from what serves then, without it.
    near
        On rank 0 the neighbours that it is judged by, where it was; see `RunClusters.judged`.
    """

    def __init__(
        self,
        config: Config,
        steps: BoostSteps,
        stepper: Stepper,
        images: Callable[[int], int],
        state: Mapping[str, Any],
        given: GivenClasses | None = None,
    ) -> None:
        self.steps, self._stepper, self._settings = steps, stepper, config.stages.boost
        self._config = config
        self._k, self._images = config.model.trained_clusters[0], images
        self._memory: LastingLabels | None = None
        self._calibrator: Calibrator | None = None
        self._checks = [Check(**check) for check in state.get("checks", ())]
        self.begun: int | None = state.get("begun")
        self.ended: str | None = state.get("ended")
        self.near: Int64 | None = None if state.get("near") is None else state["near"].numpy()
        self._given = None if "given" in state else given
        if state:
            self._remember(len(state["labels"])).load(state)
        if "calibration" in state and not self.ended:
            self._calibrated_by().load(state["calibration"])

    def follow(self, steps: BoostSteps, images: Callable[[int], int], given: GivenClasses | None) -> None:
        """Continue with data that have grown: steps, and the labels given by the user unless they are matched."""
        self.steps, self._images = steps, images
        self._given = given if self._given is not None else None

    @property
    def _is_patient(self) -> bool:
        """Whether it does not train by labels before the run is ready."""
        return self._settings.settled > 0

    def rate_at(self, step: int, before: float) -> float:
        """Return the learning rate of a step; of training as before the stage, it is `before`."""
        return before if self._is_patient and not self.steps.trains(step) else self._config.boost_lr

    def take(self, batch: Batch, by: Sequence[LossName], rate: float) -> tuple[Losses, Verdict]:
        """Take a step, as `Stepper.take` does: look at the images, then train by their labels.

        Before that it trains as before the stage, or in the first epoch only looks: there is no loss then, it is
        not a number.
        """
        labels = self._look(batch)
        if self.steps.trains(batch.step):
            return self._stepper.take(batch, by, rate, labels)
        if self._is_patient:
            return self._stepper.take(batch, by, rate)
        nothing = torch.zeros((), device=labels.device)
        return Losses(nothing * torch.nan, None, None), Verdict(nothing, nothing, nothing)

    def _look(self, batch: Batch) -> Tensor:
        """Assign this rank's images, and give and take the labels of the global batch; return these, (N,)."""
        features, p = self._stepper.look(batch)
        confidence, clusters = p.max(dim=1)
        samples = send(torch.from_numpy(batch.samples), p.device)
        # Numbers up to 2^53 are exact in float64: one call for all three.
        told = torch.stack([samples.double(), clusters.double(), confidence.double()], dim=1)
        told = dist.gather_rows(told).flatten(0, 1)
        samples, clusters, confidence = told[:, 0].long(), told[:, 1].long(), told[:, 2].to(p.dtype)
        if self._settings.selection == "calibrated":
            confidence = self._calibrated_by().take(features, p, batch.step)
        trained, memory = self.steps.trains(batch.step), self._remember(self._images(batch.step))
        if trained and self._given is not None:
            memory.give(self._given)
            self._given = None
        return memory.take(samples, confidence, clusters, lasting=trained or not self._is_patient)

    def _remember(self, images: int) -> LastingLabels:
        """Return what is remembered of this many images."""
        if self._memory is None:
            self._memory = LastingLabels(images, self._k, self._settings, self._stepper.device)
        self._memory.hold(images)
        return self._memory

    def _calibrated_by(self) -> Calibrator:
        """Return the calibrator of the confidence."""
        if self._calibrator is None:
            network = self._stepper.engine.network
            head, model = network.cluster_head, self._config.model
            self._calibrator = Calibrator(head, model, network.width, self._config.seed)
        return self._calibrator

    def lacks_check(self, step: int, last: int) -> bool:
        """Return whether a check was due after this many steps of a run that ends after `last`, and not made."""
        return self.steps.is_checked(step, last) and all(check.step != step for check in self._checks)

    def judged_at(self, step: int) -> tuple[int, Int64 | None]:
        """Return what `RunClusters.judged` takes: of data that grow, those that were there when it began."""
        return min(step, self.steps.begin), self.near

    def check(
        self, step: int, summary: Mapping[str, Any] | None, judged: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Judge how it goes.

        Parameters
        ----------
        step
            Steps done.
        summary, judged
            Of the clusters as they are now, on rank 0: of `RunClusters.measure` and `RunClusters.judged`.

        Returns
        -------
        dict or None
            On rank 0 the line for the log; None elsewhere.
        """

        remembered = self._remember(self._images(step - 1))
        if not self._checks:
            remembered.compare_from_here()
        waited = self._is_patient and self.begun is None

        def judge() -> tuple[Check, str | None, str | None]:
            assert summary is not None
            memory = {name: kept.long().cpu().numpy() for name, kept in remembered.state().items()}
            figures = of_labels(**memory, k=self._k)
            effective = float(summary["effective_clusters"])
            now = Check(
                step,
                **figures,
                stability=judged["stability"],
                neighbours=judged["neighbours"],
                effective_clusters=effective,
            )
            of = [*self._checks, now], self._settings, self._k
            if waited:
                same = judged["near"] is None  # those of a store
                return now, reason_to_wait(*of, self._config.boost_cluster_weight, same), None
            return now, None, reason_to_end(*of)

        now, waits, self.ended = dist.on_rank_zero(judge)
        if waited:  # what follows is compared with how it is now
            remembered.compare_from_here()
            self._checks.clear()
            if waits is None:
                self.begun, self.steps = step, self.steps._replace(begin=step)
        self._checks.append(now)
        self.near = judged.get("near") if waits is None else None
        if dist.rank() > 0:
            return None
        return {"stage": KEY, **now._asdict(), "begun": self.begun, "waits": waits, "ended": self.ended}

    @property
    def ended_after(self) -> int | None:
        """The step after which it was ended, if it was."""
        return self._checks[-1].step if self.ended else None

    @property
    def serves(self) -> int | None:
        """The step whose clusters serve, where it is not the last one checked; None where it is."""
        checks = self._checks[:-1] if self.ended else self._checks
        chosen = best(checks or self._checks, self.ended is not None) if self._checks else None
        return None if chosen is None or chosen is self._checks[-1] else chosen.step

    def marks(self, step: int, last: int) -> dict[str, Any]:
        """Return what the marker of a checkpoint after `step`, of a run that ends after `last`, is to say."""
        if not self._checks or (self.ended and step != self.ended_after):
            return {}
        marks: dict[str, Any] = {"pins": sorted({self._checks[0].step, self.serves or self._checks[-1].step})}
        if self.serves is not None and (self.ended or step == last):
            marks["serves"] = self.serves
        return marks

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: empty before the stage."""
        if self._memory is None:
            return {}
        checks = [check._asdict() for check in self._checks]
        near = None if self.near is None else torch.from_numpy(self.near)
        given = self._memory.given
        labels = self._memory.state() | ({"given": given} if bool((given >= 0).any()) else {})
        settings = {
            "cluster_weight": self._config.boost_cluster_weight,
            "lr": self._config.boost_lr,
            "settled": self._settings.settled,
        }
        stands = {"checks": checks, "begun": self.begun, "ended": self.ended, "near": near}
        calibration = (
            {} if self._calibrator is None or self.ended else {"calibration": self._calibrator.state()}
        )
        return {KEY: {**labels, **settings, **stands, **calibration}}
