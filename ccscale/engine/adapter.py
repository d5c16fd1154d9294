"""The adapter to DeepSpeed: the only module that uses its undocumented names.

`PRIVATE` lists them, with the purpose of each. They were taken from DeepSpeed 0.19.8; 0.19.7, the oldest
supported release, has them too. All are checked when an `Engine` is created (those of the converter when it is
used), so that a release without one of them is reported in a sentence instead of a traceback in some later step.
"""

import importlib
import logging
import os
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ccscale import dist
from ccscale.errors import InputError
from ccscale.model.network import ContrastiveClustering, Outputs
from ccscale.unimported import unimported

READ_IN = "0.19.8"
CONVERTER = "deepspeed.checkpoint.ds_to_universal"
PRIVATE = (
    ("deepspeed.utils.groups", "_WORLD_GROUP", "a second run in one process"),
    ("deepspeed.ops", "__compatible_ops__", "a start without a C++ compiler"),
    ("deepspeed.accelerator", "set_accelerator", "a second run in one process, on another device"),
    ("deepspeed.accelerator.cpu_accelerator", "CPU_Accelerator", "training on a CPU"),
    ("deepspeed.accelerator.cuda_accelerator", "CUDA_Accelerator", "training on a GPU"),
    ("deepspeed.runtime.zero.stage_1_and_2", "IPGBucket", "train.precision=fp64"),
    (CONVERTER, "main", "going on with another number of ranks"),
    ("engine", "checkpoint_engine _copy_recovery_script", "checkpoints"),
    ("engine", "global_steps global_samples skipped_steps", "going on under another ZeRO stage"),
    ("engine", "communication_data_type", "train.precision=fp64"),
    ("engine", "enable_backward_allreduce", "steps of one rank without copies of all gradients"),
    ("engine.checkpoint_engine", "save makedirs create commit", "checkpoints"),
    ("engine.checkpoint_engine", "is_decoupled preserves_storage_sharing", "checkpoints"),
    ("engine.optimizer", "bit16_groups averaged_gradients", "skipping steps that are not finite"),
    ("engine.optimizer", "compute_grad_norm clip_grad", "going on with train.clip"),
    ("engine.optimizer", "communication_data_type ipg_buckets _link_all_hp_params", "train.precision=fp64"),
    ("engine.optimizer", "single_partition_of_fp32_groups", "train.precision=fp64"),
    ("engine.optimizer", "parallel_partitioned_bit16_groups", "train.precision=fp64"),
    ("engine.optimizer", "master_weights_and_grads_dtype", "train.precision=fp64"),
    ("engine.optimizer", "gradient_accumulation_dtype", "train.precision=fp64"),
)
"""Whose they are, the names, and what they are needed for; those of ``engine.optimizer`` under ZeRO 1 and 2."""
STATES = "mp_rank_00_model_states.pt"
"""The file of a checkpoint with what is not cut into parts, a mapping; see `WEIGHTS`, `ADAM` and `VERSION`."""
WEIGHTS, ADAM, VERSION = "module", "optimizer", "ds_version"
_COUNTS = ("global_steps", "global_samples", "skipped_steps")
OURS = "ccscale"  # DeepSpeed lets the keys of its client overwrite its own: ours are one


class Engine:
    """A network and its optimizer under DeepSpeed; all ranks make it, and call it, together.

    Parameters
    ----------
    network
        The same weights on all ranks, on `device`.
    optimizer
        Steps its parameters, or this rank's part of them.
    settings
        DeepSpeed's config.
    device
        Where it trains. The process group must exist, or DeepSpeed looks for MPI.
    double
        Whether gradients are averaged, and the master weights kept, in float64.

    Attributes
    ----------
    network, optimizer
        As given.
    zero
        The ZeRO stage: under 1 and 2 a rank steps its part of the parameters.

    Raises
    ------
    InputError
        If this release of DeepSpeed lacks what is needed.
    """

    def __init__(
        self,
        network: ContrastiveClustering,
        optimizer: torch.optim.Optimizer,
        settings: dict[str, Any],
        device: torch.device,
        double: bool = False,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.zero: int = settings["zero_optimization"]["stage"]
        deepspeed = dist.together(partial(_prepare, device))
        self._engine, *_ = deepspeed.initialize(
            model=network, optimizer=optimizer, config=settings, dist_init_required=False
        )
        dist.together(self._check)
        if double:
            self._keep_float64()
        self._trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._averages = self.zero > 0 or dist.world() > 1
        if not self._averages:  # it would join all gradients, send them to nobody, and copy them back
            self._engine.enable_backward_allreduce = False
        if self.zero == 0:  # it would look for the parameters in all modules, at each step
            self._engine.zero_grad = partial(_give_up_gradients, self._trained)

    def __call__(self, images: Tensor) -> Outputs:
        """Make a forward pass."""
        outputs: Outputs = self._engine(images)
        return outputs

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those of the step's losses before it."""
        self._engine.backward(loss, scale_wrt_gas=False)  # or it would divide by the number of micro-batches
        if not self._averages:
            self._fill_gradients()

    def step(self) -> None:
        """Step the optimizer, if this was the last micro-batch."""
        self._engine.step()

    def gradients(self) -> list[Tensor]:
        """Return the gradients that a step is about to use, of this rank's part, before its first group's turn."""
        gradients = [
            parameter.grad
            for group in self.optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if self.zero:  # it steps group by group, and it is the first one's turn
            zero = self._engine.optimizer
            for group in range(1, len(zero.bit16_groups)):
                part = zero.averaged_gradients[group]
                gradients += [part] if torch.is_tensor(part) else part
        return gradients

    def hand_over(self, state: Mapping[str, Any], tag: str, keep: Callable[[str, Any], None]) -> None:
        """Hand over what this rank saves in a checkpoint.

        Parameters
        ----------
        state
            What a resume needs besides weights and optimizer.
        tag
            The folder that DeepSpeed's files lie in.
        keep
            Called with the path of each file, in the checkpoint's folder, and what it is to hold.
        """
        client = {OURS: state, "universal_checkpoint_info": {}}  # the other key is the converter's wish
        own = self._engine.checkpoint_engine
        frozen = self.network.frozen_names

        def save(state_dict: dict[str, Any], path: str) -> None:
            if frozen and os.path.basename(path) == STATES:
                weights = self.network.state_dict()
                trained = {name: value for name, value in weights.items() if name not in frozen}
                state_dict = state_dict | {WEIGHTS: trained}
            keep(os.path.normpath(path), state_dict)

        # It writes nothing; and copies share nothing, so DeepSpeed need not make its own.
        self._engine.checkpoint_engine = SimpleNamespace(
            save=save,
            makedirs=lambda path, exist_ok=False: None,
            create=lambda info: None,
            commit=lambda info: True,
            is_decoupled=lambda: False,
            preserves_storage_sharing=lambda: False,
        )
        self._engine._copy_recovery_script = lambda path: None  # under ZeRO it lays a script beside, at once
        try:
            # It would copy what is frozen, and save it.
            exclude = bool(frozen)
            self._engine.save_checkpoint(
                ".", tag=tag, client_state=client, save_latest=False, exclude_frozen_parameters=exclude
            )
        finally:
            self._engine.checkpoint_engine = own
            del self._engine._copy_recovery_script

    def load(self, folder: Path, tag: str) -> Any:
        """Load weights and optimizer from a checkpoint; return what was saved beside them.

        What is frozen is not in it, and stays as it is.
        """
        strict = not self.network.frozen_names
        zero = self._engine.optimizer if self.zero else SimpleNamespace()
        zero.compute_grad_norm = True  # it refuses what was clipped by itself, otherwise
        path, client = self._engine.load_checkpoint(str(folder), tag=tag, load_module_strict=strict)
        zero.compute_grad_norm, zero.clip_grad = False, 0.0  # it is the guard that clips
        if path is None:  # DeepSpeed warns and goes on from nothing
            raise RuntimeError(f"DeepSpeed found no checkpoint in {folder}")
        return client[OURS]

    def take_counts(self, states: Mapping[str, Any]) -> Any:
        """Restore the counts of a checkpoint's `STATES`; return what was saved besides weights and optimizer."""
        for name in _COUNTS:
            setattr(self._engine, name, states[name])
        return states[OURS]

    def _fill_gradients(self) -> None:
        """Put zeros where a gradient is missing, as DeepSpeed does where it averages them over ranks."""
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _check(self) -> None:
        check("engine", self._engine)
        check("engine.checkpoint_engine", self._engine.checkpoint_engine)
        if self.zero:
            check("engine.optimizer", self._engine.optimizer)

    def _keep_float64(self) -> None:
        """Average gradients and keep the master weights in float64, for which DeepSpeed has no setting."""
        bucket = importlib.import_module("deepspeed.runtime.zero.stage_1_and_2").IPGBucket
        zero, double = self._engine.optimizer, torch.float64
        self._engine.communication_data_type = zero.communication_data_type = double
        zero.ipg_buckets = {double: bucket()}
        zero.master_weights_and_grads_dtype = zero.gradient_accumulation_dtype = double
        for master, rounded in zip(
            zero.single_partition_of_fp32_groups, zero.parallel_partitioned_bit16_groups, strict=True
        ):
            master.data = rounded[dist.rank()].detach().clone()
        zero._link_all_hp_params()  # parameters know their place in the masters, which are others now


def _give_up_gradients(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def join_parts(source: Path, out: Path) -> None:
    """Convert the files of a checkpoint that was saved under ZeRO 1 or 2 to DeepSpeed's universal format."""
    converter = _module(CONVERTER)
    options = Namespace(
        input_folder=str(source),
        output_folder=str(out),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=False,
    )
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it shows its arguments and two bars
        converter.main(options)


def check(of: str, owner: Any) -> None:
    """Check that DeepSpeed's object or module `owner` has the names that `PRIVATE` lists of it.

    Raises
    ------
    InputError
        That names the one that is missing, and a release that has it.
    """
    for whose, names, use in PRIVATE:
        for name in names.split() if whose == of else ():
            if not hasattr(owner, name):
                raise _changed(f"{of}.{name}", use)


def _module(of: str) -> Any:
    try:
        module = importlib.import_module(of)
    except ModuleNotFoundError:
        raise _changed(of, next(use for whose, _, use in PRIVATE if whose == of)) from None
    check(of, module)
    return module


def _changed(name: str, use: str) -> InputError:
    return InputError(
        f"DeepSpeed {version('deepspeed')} lacks {name}, which ccscale needs for {use}: run `pip install "
        f"deepspeed=={READ_IN}`"
    )


def _prepare(device: torch.device) -> Any:
    """Import DeepSpeed, which takes seconds and chatters, and make it ready for this run."""
    with unimported("mlflow", "wandb"):
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Each rank would tell the user of a name that DeepSpeed has not given up yet.
    warnings.filterwarnings(
        "ignore", "`torch.distributed.all_gather_into_tensor` is deprecated", FutureWarning
    )
    operators: Any = importlib.import_module("deepspeed.ops")
    if hasattr(operators, "_probe_compatible_ops"):  # where the first look at its table fills it
        # It runs a C compiler and asks the devices, at every start; the table is read for one operator alone.
        operators._probe_compatible_ops = dict
    found = {of: _module(of) for of, *_ in PRIVATE if of.startswith("deepspeed.") and of != CONVERTER}
    # Without this it compiles an operator for inference at every first start, which needs a C++ compiler.
    found["deepspeed.ops"].__compatible_ops__["deepspeed_shm_comm"] = False
    found[
        "deepspeed.utils.groups"
    ]._WORLD_GROUP = None  # of a run before in this process: that group has ended
    # By itself it stays with the device of the process's first run.
    accelerator = found["deepspeed.accelerator"]
    if accelerator.get_accelerator().device_name() != device.type:
        kind = f"{device.type.upper()}_Accelerator"
        accelerator.set_accelerator(getattr(found[f"deepspeed.accelerator.{kind.lower()}"], kind)())
    return deepspeed
