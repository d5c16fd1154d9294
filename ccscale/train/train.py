"""`train_run`: trains a run from its config, or resumes it from the newest checkpoint in its folder."""

import gc
from collections.abc import Callable
from contextlib import ExitStack, nullcontext

from ccscale.checkpoint.lock import FolderLock
from ccscale.config import Config
from ccscale.device import float32_products, pick_device
from ccscale.preempt import Stopped, StopRequest, stop_on_signal
from ccscale.process_group import process_group
from ccscale.progress import say
from ccscale.rank_environment import RankEnvironment
from ccscale.train.heartbeat import heartbeat
from ccscale.train.loop import Outcome, Trainer
from ccscale.train.setup import set_up


def train_run(
    config: Config, request: StopRequest | None = None, on_lost: Callable[[], None] = lambda: None
) -> Outcome:
    """Train a run or resume it. Every rank calls this in its own process.

    Parameters
    ----------
    config : Config
        The run's config.
    request : StopRequest, optional
        The caller's `stop_on_signal`, if it already handles signals; by default one is created.
    on_lost : callable, optional
        Called before this process exits because another rank is lost; see `heartbeat`.

    Returns
    -------
    Outcome
        The last step, and whether the run is finished or was asked to stop.

    Raises
    ------
    InputError
        If the config or the data are invalid, before anything is written.
    Fault
        If the data can no longer be read; the run is saved.
    """
    env = RankEnvironment.read()
    device = pick_device(config.train.device, env.local_rank)
    alone = True
    with nullcontext(request) if request is not None else stop_on_signal() as request:
        try:
            with FolderLock(config.run_folder) as lock, ExitStack() as ranks:
                with request.at_once():
                    store = ranks.enter_context(process_group(env, device))
                    alone = False
                    ranks.enter_context(float32_products(device, config.train.tf32))
                    limit = config.train.rank_timeout
                    beat = ranks.enter_context(heartbeat(store, env.rank, env.world, limit, on_lost))

                def take() -> Outcome:
                    with request.at_once():  # until there is something to save
                        trainer = Trainer(set_up(config, env, device, lock), beat, request)
                    return trainer.run()

                while (outcome := take()).goes_back:
                    gc.collect()  # the engine, which has cycles: two of them might not fit
                return outcome
        except Stopped as stopped:
            if alone or env.rank == 0:
                say(f"rank {env.rank} {stopped}" if env.rank else str(stopped))
            return Outcome(None, finished=False)
