"""Writes pickles as Python 2's cPickle wrote them at protocol 2, opcode by opcode: CIFAR's files are such."""

import struct
from typing import Any

import numpy as np


def python2_pickle(value: Any) -> bytes:
    """Return a pickle of dicts, lists, ints, texts (as Python 2's byte strings) and uint8 arrays."""
    memo = iter(range(1 << 31))

    def put() -> bytes:
        number = next(memo)
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def write(value: Any) -> bytes:
        match value:
            case dict():
                pairs = b"".join(write(key) + write(item) for key, item in value.items())
                return b"}" + put() + b"(" + pairs + b"u"
            case list():
                return b"]" + put() + b"(" + b"".join(map(write, value)) + b"e"
            case int() if 0 <= value < 256:
                return b"K" + bytes([value])
            case int():
                return b"J" + struct.pack("<i", value)
            case str() | bytes():
                data = value.encode() if isinstance(value, str) else value
                head = b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
                return head + data + put()
            case np.ndarray():
                return array(value)
        raise TypeError(type(value))

    def array(value: np.ndarray) -> bytes:
        fortran = value.ndim > 1 and value.flags.f_contiguous and not value.flags.c_contiguous
        shape = b"".join(write(length) for length in value.shape)
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"cnumpy\nndarray\n" + put()
            + b"K\x00\x85" + put() + b"U\x01b" + put() + b"\x87" + put() + b"R" + put()
            + b"(K\x01(" + shape + b"t" + put()
            + b"cnumpy\ndtype\n" + put() + write(value.dtype.str[1:]) + b"K\x00K\x01\x87" + put() + b"R" + put()
            + b"(K\x03U\x01|" + put() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t" + put() + b"b"
            + (b"\x88" if fortran else b"\x89") + write(value.tobytes(order="F" if fortran else "C"))
            + b"t" + put() + b"b"
        )  # fmt: skip

    return b"\x80\x02" + write(value) + b"."
