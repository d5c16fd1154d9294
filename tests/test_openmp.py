"""How long OpenMP's threads wait in a loop: shortly, or as the user says."""

import os

import pytest
from conftest import python

from ccscale.openmp import SPINS, spin_briefly


@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, str(SPINS)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_the_user_comes_first(monkeypatch, environment, spins):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_the_command_says_so_before_pytorch_is_loaded(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    code = (
        "import os, sys; from ccscale.cli import main as cli; "
        "cli.main = lambda: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules); cli.entry()"
    )
    assert python("-c", code).stdout.split() == [str(SPINS), "False"]
