"""Exports a network as one program from pixels to answers, for ONNX Runtime or ``torch.export.load``.

::

    images       uint8, (m, H, W, 3): RGB, decoded and upright; any m, H and W
                 of channels float32, (m, H, W, C): their numbers as they are stored
    cluster      int64, (m,)
    confidence   float32, (m,): the soft assignment to that cluster
    features     float32, (m, D): the backbone's

What ``ccscale predict`` does behind the decoder is in it: the resize to the network's square (`resize.py`), the
division by 255 or what channels become 0 to 1 by, mean and deviation.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ccscale.data.images.channels import Channels, joined
from ccscale.data.images.colour import to_float
from ccscale.errors import Fault, InputError, first_line
from ccscale.export.resize import ChannelResize, PillowResize
from ccscale.model.backbone import NoBackbone
from ccscale.model.network import ContrastiveClustering

OUTPUTS = ("cluster", "confidence", "features")
FILES = {"onnx": "model.onnx", "torch-export": "model.pt2"}
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_LARGEST = 2**31 - 2**24  # bytes of weights that fit an ONNX file, which is a protocol buffer
_TOLERANCE = 1e-4  # of the confidence, and of the largest feature

Answers = tuple[Any, Any, Any]


class ExportedModule(nn.Module):
    """A network behind a resize.

    Parameters
    ----------
    network : ContrastiveClustering
        On a CPU, in evaluation mode; its head that serves answers.
    """

    def __init__(self, network: ContrastiveClustering) -> None:
        super().__init__()
        channels = Channels.of(network.settings)
        self.resize: nn.Module = PillowResize(network.size)
        if channels is not None:
            self.resize = ChannelResize(network.size, channels)
        self.divisor, self.network = 255 if channels is None else 1, network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cluster (m,), confidence (m,) and features (m, D) of images; see the module."""
        outputs = self.network(self.resize(images) / self.divisor)
        confidence, cluster = outputs.assignments.max(dim=1)
        return cluster, confidence, outputs.features


def write_program(network: ContrastiveClustering, path: Path, format: str) -> None:
    """Write a network as a program, and check that it answers as the network does.

    Parameters
    ----------
    network
        On a CPU, in evaluation mode.
    path
        The file.
    format
        A key of `FILES`.

    Raises
    ------
    InputError
        If the network takes no images, or packages are missing.
    Fault
        If it cannot be made a program, or the program answers otherwise.
    """
    if isinstance(network.backbone, NoBackbone):
        raise InputError(f"the network takes features, not images, which --format {format} needs")
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if format == "onnx" and missing:
        raise InputError(
            f"--format onnx needs {' and '.join(missing)}, not installed here: pip install 'ccscale[onnx]'"
        )
    try:
        answer = (_write_onnx if format == "onnx" else _write_torch)(
            ExportedModule(network).eval().requires_grad_(False), path
        )
    except OSError:
        raise
    except Exception as error:  # whatever torch stumbles over in a backbone
        raise Fault(
            f"'{network.settings.backbone}' cannot be exported as {format}: {first_line(error)}; --format "
            "safetensors works for any backbone"
        ) from error
    _check(network, answer, format)


def _shapes() -> dict[str, Any]:
    dim = torch.export.Dim
    return {"images": {0: dim("batch"), 1: dim("height"), 2: dim("width")}}


def _example(network: ContrastiveClustering) -> Tensor:
    shape = (2, network.size + 24, network.size + 8)
    if network.settings.of_channels:
        return torch.zeros((*shape, network.settings.in_chans))
    return torch.zeros((*shape, 3), dtype=torch.uint8)


def _write_torch(served: ExportedModule, path: Path) -> Callable[[Tensor], Answers]:
    with torch.no_grad():
        program = torch.export.export(
            served, (_example(served.network),), dynamic_shapes=_shapes(), strict=False
        )
    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return lambda images: tuple(each.numpy() for each in module(images))


def _write_onnx(served: ExportedModule, path: Path) -> Callable[[Tensor], Answers]:
    import onnxruntime

    with torch.no_grad():
        program: Any = torch.onnx.export(
            served,
            (_example(served.network),),
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_shapes=_shapes(),
            dynamo=True,
            verbose=False,
        )
    weights = sum(value.nbytes for value in served.network.state_dict().values())
    program.save(path, external_data=weights > _LARGEST)  # else in a file beside it
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(list(OUTPUTS), {"images": images.numpy()}))


def _noise(
    rng: np.random.Generator, shape: tuple[int, int, int], network: ContrastiveClustering
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return random images as a program takes them, and as the network has them of Pillow."""
    side, channels = (network.size,) * 2, Channels.of(network.settings)
    if channels is None:
        images: NDArray[Any] = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        square = [Image.fromarray(image).resize(side, Image.Resampling.BILINEAR) for image in images]
        return images, np.stack([np.asarray(image) for image in square])
    low, high = (np.array(ends, dtype=np.float32) for ends in (channels.low, channels.high))
    images = low + rng.random((*shape, len(channels)), dtype=np.float32) * (high - low)
    scaled = ((images - low) / (high - low)).clip(0, 1)
    planes = [
        [
            Image.fromarray(np.ascontiguousarray(image[..., i])).resize(side, Image.Resampling.BILINEAR)
            for i in range(len(channels))
        ]
        for image in scaled
    ]
    return images, np.stack([joined(each) for each in planes])


@torch.inference_mode()
def _check(network: ContrastiveClustering, answer: Callable[[Tensor], Answers], format: str) -> None:
    """Compare a program with the network behind Pillow, on noise of several sizes and numbers of images."""
    rng, side = np.random.default_rng(0), network.size
    for count, height, width in ((1, side, side), (3, 2 * side, side // 2 + 1), (2, side - 3, 3 * side)):
        images, square = _noise(rng, (count, height, width), network)
        outputs = network(to_float(torch.from_numpy(square)))
        _, confidence, features = (np.asarray(each) for each in answer(torch.from_numpy(images)))
        wrong = abs(confidence - outputs.assignments.amax(dim=1).numpy()).max()
        largest = outputs.features.abs().max().clamp(min=1).item()
        wrong = max(wrong, abs(features - outputs.features.numpy()).max() / largest)
        if not wrong <= _TOLERANCE:
            raise Fault(
                f"exported as {format}, '{network.settings.backbone}' gives different results, by "
                f"{wrong:.1e}; use --format safetensors"
            )
