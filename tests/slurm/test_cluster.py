"""The one-machine Slurm itself: it works, and leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jobs import wait_for

TOOL = Path(__file__).parents[2] / "tools" / "slurm_test_cluster"
HOSTS = Path("/etc/hosts")


def tool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), arguments[0], "--folder", str(folder), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def processes(folder: Path) -> list[str]:
    """Return the command lines of all that has to do with a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in text:
            found.append(text.replace(b"\0", b" ").decode(errors="replace"))
    return found


def tasks(folder: Path) -> int:
    """Return the number of tasks of the job that the test submits."""
    return sum(Path(line.split(" ")[0]).name == "sleep" for line in processes(folder))


def test_somebody_s_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    for verb in ("stop", "start"):
        done = tool(tmp_path, verb)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_others_cannot_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = tool(tmp_path / "cluster", "start")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: munge wants a folder that all can enter, unlike ")
    assert list(tmp_path.iterdir()) == []


def test_no_cluster(tmp_path: Path) -> None:
    done = tool(tmp_path / "none", "status")
    assert (done.returncode, done.stderr) == (1, f"no cluster is running in {tmp_path}/none\n")
    assert tool(tmp_path / "none", "stop").returncode == 0


@pytest.mark.slurm
@pytest.mark.slow
def test_from_start_to_stop() -> None:
    """A second cluster, beside that of the other tests: with a job, a dead node and a step when it is stopped."""
    if "SLURM_CONF" not in os.environ:
        pytest.skip('the Slurm test cluster is not up: eval "$(python tools/slurm_test_cluster start)"')
    # Others must be able to enter its parents, which pytest's own folders do not allow.
    folder, before = Path(tempfile.gettempdir()) / f"ccscale-slurm-{os.getpid()}", HOSTS.read_text()
    started = tool(folder, "start", "--nodes=2", "--cpus=3", "--gpus=2", "--port=17900")
    assert (started.returncode, started.stdout) == (0, f"export SLURM_CONF={folder}/slurm.conf\n"), (
        started.stderr
    )
    environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf"}

    def slurm(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60).stdout

    try:
        assert tool(folder, "start", "--port=17900").returncode == 1
        seen = slurm(
            "srun",
            "-N2",
            "-n2",
            "--gpus-per-node=2",
            "bash",
            "-c",
            "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES",
        )
        assert sorted(seen.splitlines()) == ["n1 0,1", "n2 0,1"]
        assert tool(folder, "status").stdout == "n1 idle\nn2 idle\n"
        slurm("sbatch", "--nodes=2", "--output=/dev/null", "--wrap", "srun sleep 1000")
        wait_for(lambda: tasks(folder) == 2, "the job's two tasks")
        assert tool(folder, "kill", "n2").returncode == 0
        assert tasks(folder) == 1
        assert tool(folder, "kill", "n2").stderr == "error: there is no running node n2\n"
        assert tool(folder, "revive", "n2").returncode == 0
    finally:
        stopped = tool(folder, "stop")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "", "")
    assert processes(folder) == []
    assert not folder.exists()
    assert HOSTS.read_text() == before
