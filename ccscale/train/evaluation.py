"""Evaluations during training: measures and reports the clusters, decides about self-labelling, keeps the best."""

from collections.abc import Callable
from typing import Any

from ccscale import dist
from ccscale.checkpoint import Saver
from ccscale.evaluate.collapse import CollapseWatch
from ccscale.preempt import Stopped
from ccscale.progress import say
from ccscale.train import messages
from ccscale.train.boost.stage import BoostStage
from ccscale.train.clusters import RunClusters
from ccscale.train.log import RunLog, evaluation_line
from ccscale.train.rescue import saved_if_data_fail
from ccscale.train.setup import Setup


class RunEvaluation:
    """Evaluates a run when its steps or its self-labelling require it; all ranks call its methods together."""

    def __init__(
        self,
        setup: Setup,
        clusters: RunClusters,
        boost: BoostStage,
        log: RunLog,
        saver: Saver,
    ) -> None:
        self._setup, self._clusters, self._boost, self._log, self._saver = setup, clusters, boost, log, saver
        self._collapse = CollapseWatch()

    def follow(self, setup: Setup) -> None:
        """Continue with data that have grown."""
        self._setup = setup

    def is_lacking(self, step: int) -> bool:
        """Return whether the run was stopped between a save and the end of that step's evaluation."""
        if self._boost.lacks_check(step, self._setup.stop):
            return True
        return self._setup.is_evaluated(step) and not dist.on_rank_zero(
            lambda: self._log.file.has_evaluation(step)
        )

    def take(self, step: int, save: Callable[[bool], None]) -> bool:
        """Measure the clusters; return False if a request has ended that early, with the step saved.

        Parameters
        ----------
        step
            Steps done.
        save
            Saves a checkpoint of the run, and waits for it if told so.

        Raises
        ------
        Fault
            If the data can no longer be read; the run is saved.
        """
        is_checked = self._boost.lacks_check(step, self._setup.stop)
        try:
            with saved_if_data_fail(lambda: save(True), step):
                summary = self._clusters.measure(step)
                judged = self._clusters.judged(*self._boost.judged_at(step)) if is_checked else {}
        except Stopped:
            save(True)
            return False
        if summary is not None:
            self._tell(step, summary)
        if is_checked:
            self._check(step, summary, judged)
            save(step == self._setup.stop or bool(self._boost.ended))
        if self._setup.config.has_clusters and self._saver.rate(step, summary):  # the best so far: it is kept
            save(False)
            self._saver.rate(step, summary)
        return True

    def _tell(self, step: int, summary: dict[str, Any]) -> None:
        config, epoch = self._setup.config, self._setup.epoch(step)
        self._log.evaluation({"step": step, "epoch": epoch, "splits": config.evaluated_splits, **summary})
        say(f"epoch {epoch}: {evaluation_line(summary)}")
        for sentence in self._collapse.news(summary) if config.has_clusters else ():
            say(f"warning: {sentence}")

    def _check(self, step: int, summary: dict[str, Any] | None, judged: dict[str, Any]) -> None:
        """Decide about self-labelling by the current clusters."""
        record = self._boost.check(step, summary, judged)
        if record is not None:
            self._log.stage({"epoch": self._setup.epoch(step), **record})
            say(messages.checked(record, self._boost.serves))
