"""Runs on this machine: what the ranks are given and told, what their codes come to, and that none is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import python, small_settings, write_config
from lives import is_alive
from runs import steps, train

from ccscale.checkpoint import find
from ccscale.cli.main import main
from ccscale.config import Config
from ccscale.config.file import parse_config
from ccscale.launch import local
from ccscale.launch.local import Ended, train_here
from ccscale.orphan import SUPERVISOR
from ccscale.preempt import StopRequest, stop_on_signal
from ccscale.rank_environment import LAUNCHER_VARIABLES

# What the played ranks can use.
RANK = """
import json, os, signal, sys, time
rank, folder = int(os.environ["RANK"]), os.environ["FOLDER"]
def end(code, step=None):
    if rank == 0: print(json.dumps({"step": step}), flush=True)
    os._exit(code)
def when(number, call):
    signal.signal(number, lambda *_: call())
def ready():
    open(f"{folder}/{rank}", "w").close()
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse_config(small_settings(tmp_path / "none", tmp_path / "run"))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Config) -> Callable[..., Ended]:
    """Have a script play the ranks."""

    def call(script: str, ranks: int = 2, request: StopRequest | None = None, **options: float) -> Ended:
        monkeypatch.setenv("FOLDER", str(tmp_path))
        monkeypatch.setattr(local, "command", lambda *_: [sys.executable, "-c", RANK + script])
        return train_here(config, ranks, StopRequest() if request is None else request, **options)

    return call


def test_each_rank_has_its_place_and_a_session(play, tmp_path, monkeypatch):
    """Of another launcher's names nothing is left; the terminal's Ctrl-C reaches the supervisor alone."""
    for name in (*LAUNCHER_VARIABLES, "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "of another launcher")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    script = """
facts = dict(os.environ) | {"leads": os.getsid(0) == os.getpid()}
json.dump(facts, open(f"{folder}/{rank}.json", "w"))
end(0, 7)
"""
    assert play(script, threads=3) == Ended(0, 7)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for rank, facts in enumerate(found):
        assert (facts["RANK"], facts["LOCAL_RANK"]) == (str(rank), str(rank))
        assert (facts["WORLD_SIZE"], facts["LOCAL_WORLD_SIZE"]) == ("2", "2")
        assert (facts["MASTER_ADDR"], facts["OMP_NUM_THREADS"]) == ("127.0.0.1", "3")
        assert facts[SUPERVISOR] == str(os.getpid())
        assert facts["leads"]
        assert "TORCHELASTIC_RUN_ID" not in facts
    assert found[0]["MASTER_PORT"] == found[1]["MASTER_PORT"] != "of another launcher"


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((0, 0), 0),
        ((75, 75), 75),
        ((76, 76), 76),
        ((2, 2), 2),
        ((1, 76), 1),  # a fault of its own, and one that was left: the same command would end so again
        ((0, 3), 1),
    ],
)
def test_the_gravest_code_counts(play, codes, code):
    assert play(f"end({codes}[rank], 3)") == Ended(code, 3)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_the_others(play, capfd, killed):
    script = f"""
if rank == {killed}: os.kill(os.getpid(), signal.SIGKILL)
when(signal.SIGTERM, lambda: None)
time.sleep(600)
"""
    assert play(script) == Ended(76, None)
    said = f"error: rank {killed} was killed by SIGKILL: the system ends processes so when it is short of memory\n"
    assert capfd.readouterr().err == said


def test_ranks_that_stay_when_one_has_failed_are_ended(play, monkeypatch):
    monkeypatch.setattr(local, "LEAVE_SECONDS", 0.3)
    assert play("end(1) if rank else time.sleep(600)") == Ended(1, None)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name
)
def test_a_signal_reaches_all_ranks(play, number):
    script = f"""
when(signal.SIGTERM, lambda: end(75, 5))
ready()
while rank == 0 and not os.path.exists(f"{{folder}}/1"): time.sleep(0.01)
if rank == 0: os.kill(int(os.environ["CCSCALE_SUPERVISOR"]), {int(number)})
time.sleep(600)
"""
    with stop_on_signal() as request:
        assert play(script, request=request) == Ended(75, 5)


def test_a_rank_that_could_not_hear_it_yet_had_nothing_to_save(play):
    script = """
if rank == 0: os.kill(int(os.environ["CCSCALE_SUPERVISOR"]), signal.SIGTERM)
time.sleep(600)
"""
    with stop_on_signal() as request:
        assert play(script, request=request) == Ended(75, None)


def test_a_second_interrupt_leaves_none(tmp_path, monkeypatch):
    """Of ranks that do not listen."""
    script = """
when(signal.SIGTERM, lambda: None)
open(f"{folder}/pid-{rank}", "w").write(str(os.getpid()))
ready()
time.sleep(600)
"""
    supervisor = (
        "import os, signal, sys, threading, time\n"
        "from pathlib import Path\n"
        "from ccscale.config.file import parse_config\n"
        "from ccscale.launch import local\n"
        "from ccscale import preempt\n"
        "preempt.SAME_SECONDS = 0\n"
        "folder, settings, script = sys.argv[1], eval(sys.argv[2]), sys.argv[3]\n"
        "local.command = lambda *_: [sys.executable, '-c', script]\n"
        "def strike():\n"
        "    while not all(Path(folder, str(rank)).exists() for rank in range(2)): time.sleep(0.01)\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGINT), time.sleep(0.5)\n"
        "threading.Thread(target=strike, daemon=True).start()\n"
        "with preempt.stop_on_signal() as request:\n"
        "    try: local.train_here(parse_config(settings), 2, request)\n"
        "    except KeyboardInterrupt: print('interrupted')\n"
    )
    monkeypatch.setenv("FOLDER", str(tmp_path))
    settings = repr(small_settings(tmp_path / "none", tmp_path / "run"))
    ended = python("-c", supervisor, str(tmp_path), settings, RANK + script)
    assert ended.stdout == "interrupted\n", ended.stderr
    assert not any(is_alive(int((tmp_path / f"pid-{rank}").read_text())) for rank in range(2))


class TestTime:
    """--time: at the limit the ranks save, and new ones go on. The clock is the number of ranks that listen."""

    LISTENING = """
open(f"{folder}/lives-{rank}", "a").write("x")
number = len(open(f"{folder}/lives-{rank}").read())
when(signal.SIGUSR1, lambda: end(75, steps[number - 1]))
open(f"{folder}/listens-{number}-{rank}", "w").close()
"""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch, tmp_path):
        played = SimpleNamespace(monotonic=lambda: len(list(tmp_path.glob("listens-*"))), sleep=time.sleep)
        monkeypatch.setattr(local, "time", played)

    def test_new_processes_go_on(self, play, tmp_path, capfd):
        script = f"""
steps = [10, 20]
{self.LISTENING}
if number == 3: end(0, 30)
time.sleep(600)
"""
        assert play(script, minutes=2 / 60) == Ended(0, 30)
        assert capfd.readouterr().err.splitlines() == [
            f"time limit reached at step {step}: the run continues in new processes" for step in (10, 20)
        ]

    def test_not_without_end(self, play, capfd):
        """Where no step fits into the time."""
        script = f"steps = [4, 4]\n{self.LISTENING}\ntime.sleep(600)"
        assert play(script, minutes=2 / 60) == Ended(75, 4)
        assert "error: no step was completed within the time limit" in capfd.readouterr().err

    def test_a_request_is_the_end(self, play):
        script = """
when(signal.SIGTERM, lambda: end(75, 5))
if rank == 0: os.kill(int(os.environ["CCSCALE_SUPERVISOR"]), signal.SIGTERM)
time.sleep(600)
"""  # rank 1 may be told before it listens: that is as good
        with stop_on_signal() as request:
            assert play(script, request=request, minutes=60) == Ended(75, 5)


class TestCommand:
    def test_a_dry_run_shows_what_would_be_started(self, tmp_path, capsys):
        path = write_config(tmp_path, small_settings(tmp_path / "none", tmp_path / "r"))
        options = ["--cluster=local", "--tasks-per-node=2", "--sweep=seed=1,2", "--dry-run"]
        assert main(["launch", str(path), *options]) == 0
        ours = f"2 ranks of {sys.executable} -m ccscale train {path}"
        assert capsys.readouterr().out.splitlines() == [
            f"{ours} run={tmp_path}/r/seed={seed} --json" for seed in (1, 2)
        ]

    def test_all_gpus_by_default(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(local, "count_gpus", lambda: 4)
        path = write_config(tmp_path, small_settings(tmp_path / "none", tmp_path / "r"))
        cases = {"train.device=cuda": "4 ranks", "train.device=cpu": "1 rank", "--gpus-per-node=2": "2 ranks"}
        for option, ranks in cases.items():
            assert main(["launch", str(path), "--cluster=local", "--dry-run", option]) == 0
            assert capsys.readouterr().out.startswith(f"{ranks} of ")

    def test_a_sweep_goes_on_after_a_failed_run_and_ends_with_the_gravest(self, tmp_path, capfd, monkeypatch):
        path = write_config(tmp_path, small_settings(tmp_path / "none", tmp_path / "r"))
        codes = {0: 0, 1: 2, 2: 0}
        monkeypatch.setattr(local, "train_here", lambda config, *_: Ended(codes[config.seed], 9))
        options = ["--cluster=local", "--sweep=seed=0,1,2", "--json"]
        assert main(["launch", str(path), *options]) == 2
        assert json.loads(capfd.readouterr().out) == {
            "jobs": [
                {"run": f"{tmp_path}/r/seed={seed}", "code": code, "step": 9} for seed, code in codes.items()
            ]
        }


@pytest.mark.slow
@pytest.mark.dist
class TestTraining:
    """Two ranks by the supervisor, against two ranks by torchrun."""

    ENDLESS = ("train.max_steps=10000", "train.epochs=9999", "train.save_every=10000")

    @pytest.fixture
    def path(self, shards: Path, tmp_path: Path) -> Path:
        return write_config(tmp_path, small_settings(shards, tmp_path / "run"))

    def launch(self, path: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "ccscale",
            "launch",
            str(path),
            "--cluster=local",
            "--tasks-per-node=2",
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*command, *arguments], text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def wait_for_steps(self, run: Path, count: int, process: subprocess.Popen[str]) -> None:
        while len(steps(run)) < count and process.poll() is None:
            time.sleep(0.05)

    def test_ranks_save_when_the_supervisor_is_killed_and_launched_again_they_go_on(self, path, tmp_path):
        run = tmp_path / "run"
        first = self.launch(path, *self.ENDLESS)
        self.wait_for_steps(run, 3, first)
        first.kill()
        _, said = first.communicate()  # its ranks hold the pipe
        assert "the launcher of this process is gone" in said
        done = find(run).newest.step
        assert done == len(steps(run)) < 10000
        again = self.launch(path, f"train.max_steps={done + 2}", "train.epochs=9999")
        out, said = again.communicate()
        assert again.returncode == 0, said
        assert out == f"run {run}: finished at step {done + 2}\n"
        train(path, 2, [f"run={tmp_path / 'other'}", f"train.max_steps={done + 2}", "train.epochs=9999"])
        names = ("step", "loss", "batch_digest")
        assert [[record[name] for name in names] for record in steps(run)] == [
            [record[name] for name in names] for record in steps(tmp_path / "other")
        ]

    def test_a_mistake_in_the_data_is_told_in_a_sentence(self, path, tmp_path):
        process = self.launch(path, "data.splits=[trian]", "--tasks-per-node=1")
        _, said = process.communicate()
        assert process.returncode == 2
        assert "has no split 'trian'; did you mean 'train'?" in said
        assert "Traceback" not in said
        assert not (tmp_path / "run").exists()
