"""Pickles of plain values and arrays are read; those that name anything else are refused and not run."""

import os
import pickle
import random
import subprocess

import numpy as np
import pytest
from harness.pickle2 import python2_pickle
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.data.sources.plain_pickle import PickledArray, PickleRefused, load

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 400), dtype=np.uint8)
VALUE = {"labels": [6, 9, 300], "data": PIXELS, "batch_label": "training batch 1 of 5"}


def test_python2_pickles():
    data = python2_pickle(VALUE)
    real = pickle.loads(data, encoding="bytes")  # the test's own pickle is one that numpy reads
    assert np.array_equal(real[b"data"], PIXELS)
    found = load(data)
    assert list(found) == ["labels", "data", "batch_label"]
    assert (found["labels"], found["batch_label"]) == ([6, 9, 300], b"training batch 1 of 5")
    assert isinstance(found["data"], PickledArray)
    assert np.array_equal(found["data"].uint8(), PIXELS)


def test_arrays_column_by_column():
    data = python2_pickle({"data": np.asfortranarray(PIXELS)})
    assert np.array_equal(pickle.loads(data, encoding="bytes")[b"data"], PIXELS)
    assert np.array_equal(load(data)["data"].uint8(), PIXELS)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_this_python(protocol):
    found = load(pickle.dumps(VALUE, protocol))
    assert np.array_equal(found["data"].uint8(), PIXELS)
    assert found["labels"] == [6, 9, 300]


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.array([None, {}]), np.zeros(2, "S1")])
def test_other_arrays_are_none(array):
    assert load(pickle.dumps(array, 2)).uint8() is None


def test_an_array_that_contradicts_itself_is_none():
    assert (
        load(
            python2_pickle(PIXELS).replace(b"M\x90\x01", b"K\x09").replace(b"J\x90\x01\x00\x00", b"K\x09")
        ).uint8()
        is None
    )
    assert PickledArray().uint8() is None


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (eval, "eval"),
        (subprocess.call, "call"),
        (getattr, "getattr"),
        (np.load, "load"),
    ],
)
def test_what_a_pickle_names_is_not_run(tmp_path, monkeypatch, protocol, function, name):
    monkeypatch.chdir(tmp_path)
    command = {"eval": "open('owned', 'w')"}.get(name, "touch owned")
    evil = pickle.dumps({"data": Calls(function, command)}, protocol)
    with pytest.raises(PickleRefused, match=rf"asks for [\w.]+\.{name}, which .* was not run"):
        load(evil)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_cannot_change_its_reader():
    # Sets attributes of what stands for numpy's function, and then reads an array.
    evil = b"\x80\x02(cnumpy.core.multiarray\n_reconstruct\n(N}U\x0c__defaults__K\x01stbcnumpy\nndarray\nt."
    with pytest.raises(PickleRefused):
        load(evil)
    assert np.array_equal(load(python2_pickle(PIXELS)).uint8(), PIXELS)


@pytest.mark.parametrize(
    "data", [b"", b"text", python2_pickle(VALUE)[:-40], b"\x80\x02r\xff\xff\xff\xff.", b"\x80\x02P1\n."]
)
def test_damage_is_told(data):
    with pytest.raises(PickleRefused, match=r"is no pickle, or it is damaged \(\w+\)"):
        load(data)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 10))
def test_any_damage_is_told_or_harmless(seed, changes):
    data, rng = bytearray(python2_pickle(VALUE)), random.Random(seed)
    for _ in range(changes):
        data[rng.choice([rng.randrange(len(data)), rng.randrange(200)])] = rng.randrange(256)
    try:
        found = load(bytes(data))
    except PickleRefused:
        return
    if isinstance(found, dict) and isinstance(found.get("data"), PickledArray):
        array = found["data"].uint8()
        assert array is None or array.size == PIXELS.size
