"""The clusters of a run during training: computes centres for untrained heads, evaluates all heads, selects one."""

from typing import Any

from ccscale import dist
from ccscale.array_types import Int64
from ccscale.evaluate.assign import measure
from ccscale.evaluate.centres import CentreFinder
from ccscale.evaluate.head_kappas import head_kappas
from ccscale.evaluate.heads import choose_heads, of_heads
from ccscale.evaluate.initial_neighbours import initial_neighbour_kappa
from ccscale.evaluate.stability import agreement, view_pairs
from ccscale.preempt import StopRequest
from ccscale.train.setup import Setup


class RunClusters:
    """Assigns a run's images with all its heads, using the averaged weights if there are any.

    All ranks call its methods together.
    """

    def __init__(self, setup: Setup, request: StopRequest) -> None:
        self._setup, self._request = setup, request
        self._network = setup.engine.network
        self._finder: CentreFinder | None = None

    @property
    def are_found(self) -> bool:
        """Whether there are heads that consist of centres."""
        return self._setup.features is not None and bool(self._setup.config.model.centres)

    def follow(self, setup: Setup) -> None:
        """Continue with data that have grown."""
        self._setup, self._finder = setup, None

    def find(self, step: int) -> None:
        """Compute the centres after a step, with the current network."""
        features, config = self._setup.supply.at(step)[1], self._setup.config
        if features is None or not config.model.centres:
            return
        if self._finder is None:
            self._finder = CentreFinder(self._network, features, config.seed)
        with self._network.averaged():
            self._finder.find()

    def judged(self, step: int, near: Int64 | None) -> dict[str, Any]:
        """Return label-free measures of the clusters in use, on the training images.

        Parameters
        ----------
        step
            The data to use: those of the run after this many steps.
        near
            On rank 0: what it returned as ``near`` before.

        Returns
        -------
        dict
            On rank 0 ``stability`` (`evaluate.stability`), None if no image has two views; ``neighbours``, the
            kappa of neighbours: those of the store, otherwise those by the features at the first call, ``near``.
            Empty on other ranks.
        """
        setup, config = self._setup, self._setup.config
        splits, serving = config.data.splits, self._network.serving
        manifest, features = setup.supply.at(step)
        data = self._network, manifest, splits, config
        found: tuple[float, Int64 | None] | None
        with self._network.averaged():
            pairs = view_pairs(*data, progress=False, features=features)
            if features is not None and features.neighbour_section is not None:
                kappas = head_kappas(self._network, features, config)
                found = None if kappas is None else (kappas[serving], None)
            else:
                found = initial_neighbour_kappa(*data, near, setup.workers, features)
        if pairs is None or found is None:
            return {}
        stable = agreement(of_heads(pairs, config.model)[serving])
        return {
            "stability": stable["stability"] if stable["views"] else None,
            "neighbours": found[0],
            "near": found[1],
        }

    def measure(self, step: int) -> dict[str, Any] | None:
        """Select the best head so far, and assign all images of the evaluated splits.

        Returns
        -------
        dict or None
            On rank 0 the result of `Tally.summary` and, if there are several heads, ``head`` (the one used),
            ``chosen`` (one for each K) and ``heads`` (a row for each). None on other ranks.

        Raises
        ------
        InputError, Fault, Stopped
            As `measure` does.
        """
        setup, config = self._setup, self._setup.config
        splits = config.evaluated_splits
        manifest, features = setup.supply.at(step)
        features = None if features is None else features.at(splits)
        data, chosen = (self._network, manifest, splits, config), dict[str, Any]()
        with self._network.averaged():
            if len(config.model.head_clusters) > 1:
                pairs = view_pairs(*data, progress=False, features=features)
                kappas = head_kappas(self._network, features, config)
                choice = dist.on_rank_zero(
                    lambda: None if pairs is None else choose_heads(pairs, config, kappas)
                )
                assert choice is not None
                self._network.serve(choice.heads[0])
                chosen = {"head": choice.heads[0], "chosen": list(choice.heads), "heads": list(choice.rows)}
            tally = measure(*data, setup.workers, self._request, progress=False, features=features)
        return None if tally is None else tally.summary() | chosen
