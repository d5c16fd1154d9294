"""What others import for nothing that ccscale uses stays out of a process."""

import importlib
import subprocess
import sys

import pytest

from ccscale.unimported import unimported

CODE = """
import sys, torch
import ccscale.train.train, ccscale.estimator, ccscale.embed.embed
from ccscale.engine.adapter import _prepare
_prepare(torch.device("cpu"))
print([name for name in ("wandb", "mlflow") if name in sys.modules])
import mlflow, wandb
"""


def test_it_is_not_found_meanwhile_and_is_afterwards(tmp_path, monkeypatch):
    for name in ("ccscale_seen", "ccscale_unseen"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    seen = importlib.import_module("ccscale_seen")
    with unimported("ccscale_seen", "ccscale_unseen"):
        assert importlib.import_module("ccscale_seen") is seen
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("ccscale_unseen")
    importlib.import_module("ccscale_unseen")


@pytest.mark.slow
def test_a_training_process_imports_no_tracker_that_it_was_not_asked_for():
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
