"""One cell of a benchmark, in a process of its own: a run trained and scored, or k-means beside it.

    python tools/paper/cell.py KIND RECORD CONFIG     KIND: run, pixels, untrained; CONFIG: a config as JSON

The run is an ordinary one, gone on with where its folder has come to. RECORD appears when all is done::

    {"kind": …, "config": {…}, "scores": {"cluster head": {"acc": …, "nmi": …, "ari": …, "f": …}, …},
     "evaluations": [{"epoch": …, "acc": …, …}, …],
     "epochs": …, "steps": …, "seconds": …, "machine": …, "commit": …}

`scores` are those of the last step, and of the one that serves where a self-labelling has judged; `evaluations`
those made while training; `seconds` what the steps took, waiting for images with it, evaluating and saving without.
"""

import json
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccscale import atomic
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.device import pick_device
from ccscale.errors import InputError
from ccscale.exit_codes import STOPPED
from ccscale.process_exit import ProcessExit

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from studies import CLUSTER_HEAD, ON_FEATURES, ON_PIXELS, PIXEL_SIDE, SERVED
from tool import exit_code

SCORES = ("acc", "nmi", "ari", "f")


def main(kind: str, record: Path, config: Config) -> int:
    """Do a cell; return the exit code, as `ccscale train` does."""
    found = run(config) if kind == "run" else beside(kind, config)
    if found is None:
        return STOPPED
    from measure import commit

    found = {"kind": kind, "config": config.model_dump(mode="json"), **found, "commit": commit()}
    record.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(record, (json.dumps(found, indent=1) + "\n").encode())
    return 0


def run(config: Config) -> dict[str, Any] | None:
    """Train a run, or go on with it, and score its last step; None if it was asked to stop."""
    from ccscale.preempt import stop_on_signal

    with stop_on_signal() as request:  # what follows takes seconds to import
        from measure import machine

        from ccscale.checkpoint.metrics_file import METRICS
        from ccscale.evaluate.evaluate import evaluate_run
        from ccscale.train.train import train_run

        metrics = config.run_folder / METRICS
        start = time.time()
        done = train_run(config, request)
        if not done.finished:
            return None
        result = evaluate_run(
            config.run_folder,
            device=config.train.device,
            workers=config.data.workers,
            checkpoint=str(done.step),  # also where a self-labelling has ended, and an earlier step serves
        )
        served = result
        if config.stages.boost.epochs:
            served = evaluate_run(
                config.run_folder, probe=False, device=config.train.device, workers=config.data.workers
            )
    assert result is not None
    assert served is not None
    if "acc" not in result:
        raise InputError(
            f"{config.data.shards} has no labels in {', '.join(result['splits'])}: nothing to score"
        )
    steps = _lines(metrics, "step")
    scores = {ON_FEATURES: _scores(result["k_means"])} if "k_means" in result else {}
    if "cluster" in config.losses:
        scores |= {CLUSTER_HEAD: _scores(result), SERVED: _scores(served)}
    return {
        "scores": scores,
        "evaluations": [
            {"epoch": line["epoch"], **_scores(line)}
            for line in _lines(metrics, "evaluation")
            if "acc" in line
        ],
        "epochs": steps[-1]["epoch"],
        "steps": result["step"],
        "seconds": sum(config.train.global_batch / line["images_per_second"] for line in steps),
        # Of a run that was trained before, by a job on another machine perhaps, that is not known.
        "machine": machine() if steps[-1]["time"] >= start else "not known (trained before)",
    }


def beside(kind: str, config: Config) -> dict[str, Any]:
    """Score k-means on the pixels, or on the features of the backbone with which the run begins."""
    import numpy as np
    from measure import machine

    from ccscale.evaluate.metrics import scores
    from ccscale.evaluate.probes import k_means

    start = time.perf_counter()
    features, labels = pixels(config) if kind == "pixels" else untrained(config)
    known = labels >= 0
    k = config.model.cluster_counts[0]
    if known.sum() < k:
        raise InputError(
            f"{config.data.shards} has {known.sum()} images with labels in {', '.join(config.evaluated_splits)}, "
            f"too few for {k} clusters"
        )
    found = scores(k_means(np.ascontiguousarray(features[known]), k, config.seed), labels[known], k)
    return {
        "scores": {ON_PIXELS if kind == "pixels" else ON_FEATURES: _scores(found)},
        "evaluations": [],
        "epochs": 0,
        "steps": 0,
        "seconds": time.perf_counter() - start,
        "machine": machine(),
    }


def pixels(config: Config) -> tuple[Any, Any]:
    """Return the pixels (N, 3 S S) float32 in [0, 1] of what evaluation sees, and the labels (N,)."""
    import numpy as np

    side = min(config.views.size, PIXEL_SIDE)
    parts = [
        (batch.images[~batch.bad].flatten(1).numpy().astype(np.float32) / 255, batch.labels[~batch.bad])
        for batch in _whole(config, side)
    ]
    images, labels = map(np.concatenate, zip(*parts, strict=True))
    return images, labels


def untrained(config: Config) -> tuple[Any, Any]:
    """Return the features (N, D) of the weights that the seed gives, and the labels (N,).

    Batch norm has the statistics of these images, by a pass before: with those that it begins with, mean 0 and
    variance 1, features are worth far less, which would flatter the trained ones.
    """
    import numpy as np
    import torch

    from ccscale.data.images.colour import to_float
    from ccscale.model.network import ContrastiveClustering

    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)  # as training begins
    network = ContrastiveClustering(config.model, config.views.size).to(device).eval()

    def features() -> Iterator[tuple[Any, Any]]:
        with torch.inference_mode():
            for batch in _whole(config, config.views.size):
                images = to_float(batch.images[~batch.bad].to(device))
                yield network(images).features.cpu().numpy(), batch.labels[~batch.bad]

    norms = [
        module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    if norms:
        for norm in norms:
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        deque(features(), maxlen=0)
        network.eval()
    rows, labels = map(np.concatenate, zip(*features(), strict=True))
    return rows, labels


def _whole(config: Config, side: int) -> Any:
    from ccscale.data.loader import default_workers
    from ccscale.data.remote.access import Access
    from ccscale.data.whole_images import whole_batches
    from ccscale.train.setup import open_data

    workers = default_workers() if config.data.workers is None else config.data.workers
    return whole_batches(
        open_data(config)[1],
        config.evaluated_splits,
        side,
        config.evaluate.batch,
        scaled_decode=config.views.scaled_decode,
        workers=workers,
        access=Access.of(config.data),
    )


def _scores(figures: dict[str, Any]) -> dict[str, float]:
    return {name: figures[name] for name in SCORES}


def _lines(metrics: Path, kind: str) -> list[dict[str, Any]]:
    if not metrics.exists():
        return []
    records = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
    return [record for record in records if record["kind"] == kind]


if __name__ == "__main__":
    end = ProcessExit()
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("kind", choices=("run", "pixels", "untrained"))
    options.add_argument("record", type=Path)
    options.add_argument("config", type=lambda text: parse_config(json.loads(text)))
    try:
        args = options.parse_args()
        end.code = exit_code(lambda: main(args.kind, args.record, args.config))
    except SystemExit as exit:
        end.code = exit.code
