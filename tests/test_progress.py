"""What is told of long work: lengths of time, rates, nothing where nothing is done; and it never ends the work."""

import gc
import sys

import pytest
from conftest import python

from ccscale.progress import Meter, duration, loading


def test_nobody_reads_any_more():
    """As where a Ctrl-C has ended the `tee` behind a command, which is about to save."""
    code = (
        "import os\n"
        "reading, writing = os.pipe()\n"
        "os.dup2(writing, 2), os.close(writing), os.close(reading)\n"
        "from ccscale.progress import Meter, say\n"
        "say('saving'), say('saved')\n"
        "with Meter('writing', 2, 'files', show=True) as meter: meter.advance(2)\n"
        "print('to the end')\n"
    )
    assert python("-c", code).stdout == "to the end\n"


def test_in_a_notebook_what_is_told_goes_to_standard_error():
    """And so whoever takes that, as the estimator does, has silence: rich would show an output of the cell."""
    code = (
        "import builtins, contextlib, io\n"
        "class ZMQInteractiveShell: pass\n"
        "builtins.get_ipython = ZMQInteractiveShell\n"
        "from ccscale.progress import say\n"
        "with contextlib.redirect_stderr(io.StringIO()) as taken: say('saving')\n"
        "print(repr(taken.getvalue()))\n"
    )
    assert python("-c", code).stdout == "'saving\\n'\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0371, "0.037 s"),
        (2.345, "2.3 s"),
        (12.4, "12 s"),
        (59.7, "1 min"),
        (119.6, "2 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (18600, "5 h 10 min"),
        (100_000, "27 h 47 min"),
        (172_800, "2 days"),
        (374_400, "4 days 8 h"),
        (1e8, "1,157 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_what_is_done_already_is_not_told(capsys):
    for total in (28, 42):
        with Meter("training", total, "steps", show=True, done=42) as meter:
            meter.update(42)
    assert capsys.readouterr().err == ""


def test_no_rate_where_nothing_was_done(capsys):
    with Meter("training", 28, "steps", show=True, done=5):
        pass
    assert capsys.readouterr().err == "training: 5 of 28 steps\n"


def test_what_was_done_is_told_at_the_end(capsys):
    with Meter("training", 28, "steps", show=True, done=5) as meter:
        meter.update(28, "loss 1")
    err = capsys.readouterr().err
    assert err.startswith("training: 28 of 28 steps, ")
    assert err.endswith(" a second, loss 1\n")


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_pytorch_loads_and_then_as_before(monkeypatch, capsys, collects):
    frozen = []
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with loading():
            assert not gc.isenabled()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
    assert frozen == [True]
    assert "loading PyTorch" in capsys.readouterr().err
