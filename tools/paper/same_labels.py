#!/usr/bin/env python
"""Whether self-labelling gives each image the label that it has by the plainest way, step by step, in float64.

    python tools/paper/same_labels.py CONFIG --out DIR [key=value ...] [--json]

A run of ccscale's with stages.boost, and beside it one process that does the same by loops over images and whole
matrices (boosting.py), with torch's own Adam: from the same weights, on the same batches of the same views, through
the training epochs and the stage. Compared are the labels of every batch of the stage after each of its steps. The
exit code is 1 where one differs.

    DIR/run
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from ccscale.config import Config, strong_view, weak_view
from ccscale.config.file import load_config
from ccscale.data.images.colour import apply_colour
from ccscale.data.order.run import make_schedule
from ccscale.data.order.stages import BoostSteps
from ccscale.data.pairs import PairBatch, Triples, pair_batches
from ccscale.errors import InputError
from ccscale.preempt import stop_on_signal
from ccscale.progress import Meter, say
from ccscale.train.boost.labels import LastingLabels
from ccscale.train.setup import open_data
from ccscale.train.train import train_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from boosting import Boosting
from formulation import whole_cluster_loss, whole_instance_loss
from plain_network import Network
from tool import exit_code, parser, tell


class OnePass(Network):
    """Both views go through together, as ccscale has it: batch norm sees both."""

    def forward(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return z_a, z_b (N, d) and p_a, p_b (N, K)."""
        h = self.backbone(torch.cat([x_a, x_b]))
        z = torch.nn.functional.normalize(self.instance(h), dim=1)
        (z_a, z_b), (p_a, p_b) = z.chunk(2), self.soft(h).chunk(2)
        return z_a, z_b, p_a, p_b


def of_ccscale(config: Config) -> list[list[int]]:
    """Train a run; return the labels of each batch of its stage."""
    found: list[list[int]] = []
    take = LastingLabels.take

    def noted(memory: LastingLabels, *batch: Any, **options: Any) -> Tensor:
        labels = take(memory, *batch, **options)
        found.append(labels.tolist())
        return labels

    with stop_on_signal() as request, patch.object(LastingLabels, "take", noted):
        train_run(config, request)
    return found


def of_plain(config: Config) -> Iterator[list[int]]:
    """Yield the labels of each batch of the stage by the plain way."""
    torch.manual_seed(config.seed)
    network = OnePass(config).double().train()
    optimizer = torch.optim.Adam(
        network.parameters(), config.train.lr, weight_decay=config.train.weight_decay
    )
    _, manifest, _ = open_data(config)
    schedule = make_schedule(config, manifest.select(config.data.splits), 1)
    steps, boost, loss = BoostSteps.of(config, schedule), config.stages.boost, config.loss
    triples = Triples(steps, weak_view(config.views, boost.weak), strong_view(config.views, boost.strong))
    batches = pair_batches(
        manifest, config.data.splits, schedule, config.views, 0, steps.stop, triples=triples
    )
    boosting = None
    with Meter("the plain way", steps.stop, "steps", show=True) as meter:
        for batch in batches:
            views = coloured(batch, config)
            if batch.step < steps.first:
                optimizer.zero_grad()
                z_a, z_b, p_a, p_b = network(*views)
                total = loss.instance_weight * whole_instance_loss(z_a, z_b, loss.instance_temperature)
                total = total + loss.cluster_weight * whole_cluster_loss(p_a, p_b, loss.cluster_temperature)
                total.backward()
                optimizer.step()
            else:
                boosting = boosting or Boosting(config, network, optimizer, whole_cluster_loss)
                yield boosting.step(batch.samples.tolist(), views, steps.trains(batch.step))
            meter.advance(1)


def coloured(batch: PairBatch, config: Config) -> list[Tensor]:
    """Return a batch's views as the network takes them, (n, 3, S, S) each."""
    flat = apply_colour(batch.images.flatten(0, 1), batch.colour.flatten(), config.views, torch.float64)
    return list(flat.chunk(len(batch.images)))


def compare(config: Config) -> dict[str, Any]:
    """Return how many labels differ."""
    ours, plain = of_ccscale(config), list(of_plain(config))
    if len(ours) != len(plain):
        raise InputError(
            f"ccscale took {len(ours)} steps of the stage and the plain way {len(plain)}: give a run of its own, "
            "whose guards do not end it"
        )
    differing = [sum(a != b for a, b in zip(*batch, strict=True)) for batch in zip(ours, plain, strict=True)]
    return {
        "steps": len(ours),
        "labels": sum(map(len, ours)),
        "given": sum(label >= 0 for batch in ours for label in batch),
        "differing": sum(differing),
        "first_step": next((step for step, count in enumerate(differing, start=1) if count), None),
    }


def main() -> int:
    """Compare and return the exit code."""
    options = parser(__doc__)
    options.add_argument("config", metavar="CONFIG", help="a YAML file")
    options.add_argument("overrides", metavar="key=value", nargs="*", help="settings over those of the file")
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the run goes")
    args = options.parse_args()

    def call() -> int:
        exact = ["train.precision=fp64", "train.zero=1", "train.device=cpu", f"run={args.out / 'run'}"]
        # The plain way does not wait, and has no calibration.
        exact += ["stages.boost.settled=0", "stages.boost.selection=threshold"]
        config = load_config(args.config, [*args.overrides, *exact])
        if not config.stages.boost.epochs:
            raise InputError("the config has no self-labelling: add stages.boost.epochs=N")
        found = compare(config)
        tell(
            found, args.json, lambda found: say(", ".join(f"{name} {value}" for name, value in found.items()))
        )
        return 1 if found["differing"] else 0

    return exit_code(call)


if __name__ == "__main__":
    sys.exit(main())
