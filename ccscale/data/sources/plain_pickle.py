"""Reads pickles that hold plain values and numpy arrays, as CIFAR's files do, without running what they name.

A pickle is a program that may call anything it names. Here it may name four things, and gets a stand-in for each
that keeps what it is given: no function of numpy or of any other module runs.
"""

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class PickleRefused(ValueError):
    """A pickle that is damaged, or names what it must not; the message goes on after the file's name."""


class PickledArray:
    """An array as a pickle has it, not looked at before it is requested."""

    def __init__(self) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def uint8(self) -> npt.NDArray[np.uint8] | None:
        """Return the array if it is one of bytes, else None."""
        match self._state:
            case (int(), tuple() as shape, _Dtype() as dtype, is_fortran, bytes() as data):
                whole = all(type(length) is int and length >= 0 for length in shape)
                if dtype.name in ("u1", b"u1") and whole and math.prod(shape) == len(data):
                    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")
        return None


class _Dtype:
    """A numpy type as a pickle has it: its short name."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Pass over byte order and the like, which single bytes do not have."""


def load(data: bytes) -> Any:
    """Return what a pickle holds, the texts of Python 2 as bytes and a dictionary's keys as text.

    Raises
    ------
    PickleRefused
        If it is damaged or names anything but numpy's arrays.
    """
    try:
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except PickleRefused:
        raise
    # A damaged pickle can raise almost anything: EOFError, IndexError, UnicodeDecodeError, MemoryError, …
    except Exception as error:
        raise PickleRefused(f"is no pickle, or it is damaged ({type(error).__name__})") from None
    if isinstance(found, dict):
        return {
            key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()
        }
    return found


# The one in C makes room for any number of remembered values that a damaged file asks for.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        # New functions each time: a pickle can set attributes of what it is given.
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return lambda *_: PickledArray()
            case "numpy", "dtype":
                return lambda name, *_: _Dtype(name)
            case "numpy", "ndarray":
                return lambda *_: None
            case "_codecs", "encode":  # how Python 3 writes bytes for Python 2
                return lambda text, *_: text.encode("latin1")
        raise PickleRefused(f"asks for {module}.{name}, which no file of images needs, and was not run")
