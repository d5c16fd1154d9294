"""Rereads the manifest of a run's data during training: adds new shards, reports or retires vanished ones."""

from dataclasses import replace

from ccscale import dist
from ccscale.data.shards.intakes import Comparison, Intake
from ccscale.data.shards.manifest import Manifest
from ccscale.errors import Fault, InputError
from ccscale.features.store import Features
from ccscale.progress import say
from ccscale.train.run_data import RunData, check_kept, check_store
from ccscale.wording import agree, counted


class RunDataWatch:
    """Looks at the data of a run where `data.refresh` says; all ranks call it together, and the first one looks."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look(self, supply: RunData, step: int) -> RunData:
        """Return the data from a step on; decisions are written before it returns.

        Raises
        ------
        InputError
            On all ranks, if a shard has changed, or what is left does not fill a batch.
        """
        found = dist.on_rank_zero(lambda: self._take_in(supply, step))
        return replace(supply, kept=supply.kept.looked(step)) if found is None else found

    def retire(self, supply: RunData, missing: tuple[str, ...], step: int) -> RunData:
        """Return the data from a step on without some shards; as `look`."""
        return dist.on_rank_zero(lambda: self._with(supply, Comparison((), missing), step))

    def _take_in(self, supply: RunData, step: int) -> RunData | None:
        try:
            listed = _read(supply)
        except (InputError, Fault) as error:  # it may be in the middle of being written
            self._tell(f"the data are not looked at for now: {error}")
            listed = supply
        check_store(supply, listed)
        found = listed.compare()
        check_kept(listed, found)
        whole = list(found.new)
        if supply.features is None:  # (what a store lists is there)
            whole = [source for source in whole if listed.manifest.problem_of(source.shard) is None]
        if len(whole) < len(found.new):
            waiting = len(found.new) - len(whole)
            self._tell(
                f"{counted(waiting, 'new shard')} {agree(waiting, 'is', 'are')} listed and not whole yet"
            )
        retired = found.vanished if supply.config.data.vanished == "retire" else ()
        if not retired and found.vanished:
            they = agree(len(found.vanished), "it is", "they are")
            self._tell(
                f"warning: {counted(len(found.vanished), 'shard')} of the run "
                f"{agree(len(found.vanished), 'is', 'are')} not listed any more in {supply.config.data.place}, the "
                f"first is {found.vanished[0]}: {they} read as before (data.vanished=retire leaves them out)"
            )
        if not whole and not retired:
            supply.kept.looked(step).kept(supply.config.run_folder)
            return None
        return self._with(listed, Comparison(tuple(whole), retired), step)

    def _with(self, supply: RunData, found: Comparison, step: int) -> RunData:
        kept = supply.kept.with_(Intake(step, found.new, found.vanished))
        supply = replace(supply, kept=kept)
        supply.schedule(dist.world())  # what does not fit is refused before it is written
        say(_news(supply, found, step))
        return replace(supply, kept=kept.kept(supply.config.run_folder))

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            say(sentence)


def _read(supply: RunData) -> RunData:
    """Return the data as they are listed now."""
    config = supply.config
    if config.data.features is None:
        return replace(supply, manifest=Manifest.load(config.data.place))
    features = Features(config.data.features, unfinished=True)
    return replace(supply, manifest=features.manifest, features=features)


def _news(supply: RunData, found: Comparison, step: int) -> str:
    images = sum(source.shard.nsamples for source in found.new)
    told = []
    if found.new:
        told.append(f"took in {counted(len(found.new), 'new shard')} of {counted(images, 'image')}")
    if found.vanished:
        told.append(
            f"retired {counted(len(found.vanished), 'shard')}, which {agree(len(found.vanished), 'is', 'are')} gone"
        )
    total = sum(source.shard.nsamples for source in supply.intakes.active)
    era = supply.schedule(dist.world()).at(step)
    return (
        f"step {step:,}: {' and '.join(told)}; {counted(total, 'image')} from here on, "
        f"{counted(era.schedule.steps_per_epoch, 'step')} an epoch"
    )
