"""The training loop: the remaining steps of a run, and everything between two steps."""

from contextlib import closing
from dataclasses import dataclass, replace

from ccscale import checkpoint, dist
from ccscale.data.pairs import PairBatch
from ccscale.engine.guard import SkippedSteps
from ccscale.engine.rates import Rates
from ccscale.errors import Fault, InputError
from ccscale.features.batches import FeatureBatch
from ccscale.preempt import StopRequest
from ccscale.train import messages
from ccscale.train.agreement import Agreement, StepEnd
from ccscale.train.boost.stage import KEY, BoostStage
from ccscale.train.clusters import RunClusters
from ccscale.train.data_waits import DataWaits
from ccscale.train.eta import TimeEstimate
from ccscale.train.evaluation import RunEvaluation
from ccscale.train.feed import Feed
from ccscale.train.garbage import collect, collect_by_hand
from ccscale.train.heartbeat import Heartbeat
from ccscale.train.log import RunLog
from ccscale.train.profile import StepProfile
from ccscale.train.rescue import saved_if_data_fail
from ccscale.train.run_data_watch import RunDataWatch
from ccscale.train.setup import Setup
from ccscale.train.step import Stepper
from ccscale.train.trackers.trackers import Trackers


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int | None
    """Steps done; None where it was asked to stop before that was known."""
    finished: bool
    """False: it was asked to stop, and what there was to save is saved; or it goes back."""
    goes_back: bool = False
    """Whether its self-labelling was ended: the steps that are left are taken from what serves, as by a resume."""


class Trainer:
    """Takes one rank's steps, and saves, evaluates and stops where all ranks do.

    Parameters
    ----------
    setup
        What it trains with.
    beat
        This rank's sign of life, which tells the others what it does.
    request
        Whether this process was asked to stop.
    """

    def __init__(self, setup: Setup, beat: Heartbeat, request: StopRequest) -> None:
        self.setup, self.request, self.beat, self.activity = setup, request, beat, beat.activity
        self.config = config = setup.config
        self.phases, training = config.phases, min(setup.stop, setup.boost.first)
        self.rates = Rates.of(config.train, setup.schedule.eras[0].schedule.steps_per_epoch, training)
        self.begun = self.step = setup.step
        self.bad, self.watch = dict.fromkeys(setup.state["bad"]), RunDataWatch()
        self.stepper = Stepper(config, setup.engine, setup.device, self.activity.part)
        images, kept = setup.supply.intakes.samples, setup.state.get(KEY, {})
        self.boost = BoostStage(config, setup.boost, self.stepper, images, kept, setup.given)
        self.saver = saver = checkpoint.Saver(setup.engine, config, setup.found, setup.lock.check)
        self.feed = Feed(setup.batches, setup.device)
        every, batch, write = config.train.log_every, config.train.global_batch, dist.rank() == 0
        self.trackers = Trackers(config, write)
        self.log = RunLog(
            config.run_folder,
            self.step,
            setup.stop,
            every,
            batch,
            write,
            before_writing=setup.lock.check,
            tell=self.trackers.tell,
            news=DataWaits(setup.device, batch, setup.readers).news,
        )
        self.skipped = SkippedSteps(
            config.train.max_bad_steps,
            dist.say,
            lambda: messages.lower_rate(config, is_saved=saver.saved > 0 or saver.is_busy),
        )
        self.clusters = RunClusters(setup, request)
        self.evaluation = RunEvaluation(setup, self.clusters, self.boost, self.log, saver)

    def run(self) -> Outcome:
        """Take the steps that are left, save and evaluate on the way."""
        profile = StepProfile(self.config.run_folder, self.config.train.profile, dist.rank())
        with (
            self.trackers,  # last, when all else is safe
            closing(self.feed),
            self.saver,
            self.log,
            profile,
            collect_by_hand(),
            self.beat.telling(),
        ):
            if self.evaluation.is_lacking(self.step) and not self.evaluate():  # (its centres are saved)
                return self._stopped(evaluated=False)
            if dist.sum_integers([bool(self.request)])[0]:  # told before there was a step to take
                return self._stopped()
            if self.step < self.setup.stop:
                with self.request.at_once():
                    self.look()
                    self.feed.restart(self.setup.batches)
                dist.together(self.feed.check)
            even = self.setup.device.type == "cpu" and not self.config.train.compile
            estimate = TimeEstimate(self.step, self.setup.stop, even, self.settle)
            while self.step < self.setup.stop:
                end = self.take_step()
                estimate.step(self.step)
                profile.step()
                if self.step % self.config.train.log_every == 0:
                    collect()
                if self.setup.is_evaluated(self.step) or (end.save_due and not end.stopping):
                    self.find_clusters()
                if (end.save_due or end.is_final) and not self._is_saved_later(end):
                    self.save(wait=end.is_final)
                if end.spoilt:
                    raise messages.too_many_bad(self.config, list(self.bad), self.step).told_by(0)
                if end.stopping:
                    return self._stopped()
                if end.starved:
                    with saved_if_data_fail(lambda: self.save(wait=True), self.step):
                        dist.together(self.feed.check)
                if self.setup.is_evaluated(self.step) and not self.evaluate():
                    return self._stopped(evaluated=False)
                if self.boost.ended_after == self.step < self.setup.stop:
                    return Outcome(self.step, finished=False, goes_back=True)
                if self.setup.begun == self.step < self.setup.stop:
                    self.feed.restart(self.setup.batches)
                    dist.together(self.feed.check)
            self.trackers.end = "finished"
        return Outcome(self.step, finished=True)

    def take_step(self) -> StepEnd:
        """Take a step, fetch the next batch meanwhile, and agree between ranks how it has ended."""
        batch, data_wait = self.feed.batch, self.feed.wait
        phase, rate = self.setup.schedule.locate(self.step).phase, self.rates.at(self.step)
        taker: Stepper | BoostStage = self.stepper
        if self.boost.steps.covers(self.step):
            taker, rate = self.boost, self.boost.rate_at(self.step, rate)
        self.activity.begin(self.step + 1, "views", at_work=self.step == self.begun)  # the first may compile
        if self.step + 1 < self.setup.stop and not self.setup.is_looked_at(self.step + 1):
            self.feed.begin()  # the next one, of data that are still these
        losses, verdict = taker.take(batch, self.phases[phase].losses, rate)
        self.step += 1
        if self.step < self.setup.stop:
            self.fetch()
        self.activity.begin(self.step, "agreeing with the other ranks")
        agreed = self.agree(batch)
        self.activity.begin(self.step, "noting the step", at_work=True)  # on a disk that may be slow
        record = {
            "step": self.step,
            "epoch": self.setup.epoch(self.step),
            **({"phase": phase + 1} if len(self.phases) > 1 else {}),
            **losses._asdict(),
            "lr": rate,
            "data_wait": data_wait,
            "batch_digest": agreed.digest,
            "bad_samples": len(self.bad),
            "skipped": verdict.skipped,
            "failed_saves": self.saver.failures,
        }
        self.skipped.note(self.log.step(record), verdict)
        if self.log.is_due:
            self.settle()
        return StepEnd(
            save_due=self.saver.is_due(self.step, late=agreed.late > 0),
            spoilt=len(self.bad) > self.config.data.max_bad_samples,
            stopping=agreed.stopping > 0 and self.step < self.setup.stop,
            starved=agreed.starved > 0,
            last=self.step == self.setup.stop,
        )

    def fetch(self) -> None:
        """Fetch the next batch of the current data, or note why there is none."""
        try:
            grown = self.look()
        except (Fault, InputError) as error:  # on all ranks; they agree on it as on data that cannot be read
            self.feed.failure = error
            return
        self.activity.begin(self.step, "waiting for data", at_work=self.setup.reads_for_long or grown)
        if grown:
            self.feed.restart(self.setup.batches)
        else:
            self.feed.fetch(self.request)

    def look(self) -> bool:
        """Read the data again if that is due, and add new shards; return whether there were any."""
        if not self.setup.is_looked_at(self.step):
            return False
        self.activity.begin(self.step, "looking at the data", at_work=True)
        setup, supply = self.setup, self.watch.look(self.setup.supply, self.step)
        grown = len(supply.intakes.intakes) > len(setup.supply.intakes.intakes)
        self.setup = setup = setup.of(supply, self.step) if grown else replace(setup, supply=supply)
        if grown:
            self.boost.follow(setup.boost, supply.intakes.samples, setup.given)
            self.clusters.follow(setup)
            self.evaluation.follow(setup)
            self.log.lengthen(setup.stop)
        return grown

    def _is_saved_later(self, end: StepEnd) -> bool:
        """Return whether a step is saved with what its check finds, and not before."""
        return self.boost.lacks_check(self.step, self.setup.stop) and not (end.spoilt or end.stopping)

    def agree(self, batch: PairBatch | FeatureBatch) -> Agreement:
        """Agree between ranks at a step's end; note bad images, and continue with the save that is under way."""
        agreed = Agreement(
            *batch.digest,
            len(batch.bad),
            bool(self.request),
            self.feed.failure is not None,
            *self.saver.votes(),
            self.saver.is_late,
        ).over_ranks()
        self.saver.count(agreed.written, agreed.unwritten)
        if agreed.bad:
            for line in (line for lines in dist.all_objects(batch.bad) for line in lines):
                if line not in self.bad:
                    self.bad[line] = None
                    dist.say(f"skipped an image that cannot be decoded: {line}")
        return agreed

    def settle(self) -> None:
        """Write the lines of the steps so far, which waits for the device, and check skipped steps.

        All ranks call it at the same step.
        """
        self.log.flush()
        self.skipped.judge()

    def save(self, wait: bool) -> None:
        """Save a checkpoint; if not `wait`, go on as soon as its content is copied.

        Raises
        ------
        Fault
            If it was waited for, and could not be written; if another process writes the run by now.
        """
        self.settle()
        self.activity.begin(self.step, "saving", at_work=True)
        dist.on_rank_zero(self.setup.lock.check)
        kept, facts = self.setup.supply.kept.state(self.step), self.setup.facts(self.step)
        state = {"bad": list(self.bad), **self.boost.state(), **kept}
        marks = self.boost.marks(self.step, self.setup.stop)
        (self.saver.save if wait else self.saver.begin)(self.step, state, facts, marks)
        self.log.skip_time()

    def find_clusters(self) -> None:
        """Compute the centres of untrained heads with the current network."""
        if self.clusters.are_found:
            self.settle()
            self.activity.begin(self.step, "finding clusters", at_work=True)
            self.clusters.find(self.step)

    def evaluate(self) -> bool:
        """Measure the clusters; return False if a request has ended that early, with the step saved."""
        self.settle()
        self.activity.begin(self.step, "evaluating", at_work=True)
        went_on = self.evaluation.take(self.step, self.save)
        if self.boost.begun == self.step:  # the next batch is one that trains by labels
            self.setup = replace(self.setup, step=self.step, begun=self.step)
        return went_on

    def _stopped(self, evaluated: bool = True) -> Outcome:
        """Say that the run was stopped, and is saved."""
        dist.say(messages.stopped(self.request, self.step, self.setup.stop, evaluated))
        return Outcome(self.step, finished=evaluated and self.step >= self.setup.stop)
