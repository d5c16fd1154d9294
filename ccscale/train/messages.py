"""The messages of training: at the start, the devices, the data and where it resumes; at the end, the reason.

::

    training on 1 rank: the CPU, 2 threads (torch sees no CUDA device)
    photos: 60,000 images of train; 234 steps of 256 images an epoch, 1,000 epochs: 234,000 steps
    running the first step
    the first step took 4.1 s: the remaining 233,999 take at most 11 days 2 h, until Mon 07 Dec, 09:40
    warning: that is days; ...
    a step takes 2.9 s: the remaining 233,989 take about 7 days 20 h, until Fri 04 Dec, 03:20
    warning: that is days; ...

The messages about the first steps are in `eta.py`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ccscale import dist
from ccscale.config import Config
from ccscale.data.order.phases import PhasedSchedule
from ccscale.data.shards.manifest import Manifest
from ccscale.device import cpu_has_bf16
from ccscale.errors import InputError
from ccscale.preempt import StopRequest
from ccscale.wording import counted

_PRODUCTS = {
    "none": "nothing in TF32",
    "convolutions": "convolutions of float32 in TF32",
    "all": "all products of float32 in TF32",
}


def describe_run(
    config: Config, manifest: Manifest, schedule: PhasedSchedule, device: torch.device, stop: int
) -> Iterator[str]:
    """Yield sentences about the devices, images and steps of a run."""
    multiplied = f", {_PRODUCTS[config.train.tf32]}" if device.type == "cuda" else ""
    yield f"training on {counted(dist.world(), 'rank')}: {_name(device, config.train.device)}{multiplied}"
    if device.type == "cpu" and config.train.precision == "bf16" and not cpu_has_bf16():
        yield (
            "warning: this CPU has no instructions for bfloat16, and converts it to and fro: a step takes several "
            "times as long as by train.precision=fp32; begin another run with that"
        )
    images = sum(shard.nsamples for shard in manifest.select(config.data.splits))
    phases = f" in {len(schedule.phases)} phases" if len(schedule.phases) > 1 else ""
    splits, batch, steps = ", ".join(config.data.splits), schedule.global_batch, schedule.steps_per_epoch
    yield (
        f"{manifest.name}: {images:,} images of {splits}; {counted(steps, 'step')} of {batch:,} images an "
        f"epoch{phases}, {_ends(config, steps, stop)}"
    )


def _name(device: torch.device, asked: str) -> str:
    """Return the readable name of a device, and how much of it each rank has."""
    each = " each" if dist.world() > 1 else ""
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}{each}"
    none = " (torch sees no CUDA device)" if asked == "auto" else ""
    return f"the CPU, {counted(torch.get_num_threads(), 'thread')}{each}{none}"


def _ends(config: Config, steps: int, stop: int) -> str:
    boost, epochs = config.stages.boost.epochs, config.train.epochs
    if (refresh := config.data.refresh) is not None:
        again = "where an epoch ends" if refresh == "epoch" else f"every {counted(refresh, 'step')}"
        looked = f"the data are looked at again {again}"
        if config.train.max_steps is not None:
            return f"{counted(stop, 'step')} in all; {looked}"
        return (
            f"{counted(epochs + boost, 'epoch')}: {counted(stop, 'step')} if they stay as they are; {looked}"
        )
    more = f" and {boost:,} of self-labelling" if boost else ""
    said = f"{counted(epochs, 'epoch')}{more}: {counted((epochs + boost) * steps, 'step')}"
    return said if stop == (epochs + boost) * steps else f"{said}, of which train.max_steps takes {stop:,}"


def describe_resume(step: int, stop: int, first_save_failed: bool) -> str:
    """Return the message about a run that was started before, perhaps without a complete checkpoint."""
    if step > stop:  # it was shortened
        return f"step {step} is done, and the run ends at {stop}: there is nothing left to do"
    why = ": there is nothing left to do" if step == stop else ""
    if first_save_failed:
        why = ": its first checkpoint was cut off while it was being saved"
    return f"going on from step {step} of {stop}{why}"


def advise(config: Config) -> Iterator[str]:
    """Yield advice about clusters that carry little information."""
    if not config.has_clusters:
        yield (
            "the cluster head is not trained: it is the features that tell how good the run is (k-means, "
            "`ccscale evaluate`), not its clusters"
        )
    elif "cluster" in config.losses and config.train.global_batch < 2 * (
        most := max(config.model.cluster_counts)
    ):
        yield (
            f"warning: a global batch of {config.train.global_batch} can hardly show {most} "
            "clusters; several times as many images work better (train.global_batch)"
        )


def stopped(request: StopRequest, step: int, stop: int, evaluated: bool) -> str:
    """Return the message about a run that was stopped on request and is saved."""
    took = f", {time.monotonic() - request.time:.1f} s after it" if request else ""
    saved = "saved" if step else "with nothing to save"
    where = f"at step {step} of {stop}" + ("" if evaluated else ", which is still to be evaluated")
    return f"stopped on {request.name} {where}, {saved}{took}; run the same command to resume"


def checked(record: Mapping[str, Any], serves: int | None) -> str:
    """Return a line about a check of self-labelling; after its end, which checkpoint is used."""
    measures = {"neighbours": "with their neighbours", "stability": "of two views"}
    told = [f", {name} {record[key]:.3f}" for key, name in measures.items() if record[key] is not None]
    without = record["unlabelled_clusters"]
    line = (
        f"self-labelling: {record['labelled']:.0%} of the images labelled"
        + (f", {counted(without, 'cluster')} without" if without else "")
        + f"; agreement with the clusters before {record['agreement']:.3f}{''.join(told)}"
    )
    if record["waits"] is not None:
        return f"{line}; nothing is trained by labels yet: {record['waits']}"
    if record["begun"] == record["step"]:
        return f"{line}; from here on it trains by labels"
    if record["ended"] is None:
        return line if serves is None else f"{line}; the clusters of step {serves} are the best so far"
    which = record["step"] if serves is None else serves
    end = f"it ends at step {record['step']}: {record['ended']}"
    return f"{line}; {end}; the run serves the clusters of step {which}"


def too_many_bad(config: Config, bad: Sequence[str], step: int) -> InputError:
    """Return the error of a run with more undecodable images than allowed."""
    data = config.data
    return InputError(
        f"{len(bad)} images cannot be decoded, above data.max_bad_samples of {data.max_bad_samples}; the "
        f"last is {bad[-1]}; the run is saved at step {step}: fix the data in {data.place}, or raise the "
        "limit"
    )


def lower_rate(config: Config, is_saved: bool) -> str:
    """Return the remedy for steps that are not finite."""
    run = config.run_folder
    lower = f"run=DIR train.lr={config.train.lr / 3:.1g}"
    if not is_saved:
        return f"no checkpoint is saved yet: begin anew with a lower rate ({lower})"
    return (
        "continue in a new run with a lower rate, from the newest checkpoint or an earlier one "
        f"({lower} train.start={run}, or {run}@STEP)"
    )
