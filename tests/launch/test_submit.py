"""What sbatch is given; its part is played by a script that notes what it was called with."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import small_settings, write_config

from ccscale.cli.main import main

SBATCH = """#!/bin/bash
cp "$1" '{folder}/script'
env > '{folder}/environment'
echo "Submitted batch job 42"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    return write_config(tmp_path / "c", small_settings(tmp_path / "none", tmp_path / "runs" / "r"))


@pytest.fixture
def bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stand in for Slurm's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "srun", "#!/bin/bash\n")
    command(folder, "sbatch", SBATCH.format(folder=folder))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def lines(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


class TestScript:
    """--dry-run, which needs no Slurm."""

    def script(self, capsys, *arguments: str) -> str:
        assert main(["launch", *arguments, "--dry-run"]) == 0
        return capsys.readouterr().out

    def test_a_job(self, config, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        options = ["--nodes=2", "--gpus-per-node=4", "--cpus-per-task=6", "--mem=64GB", "--time=12:00:00"]
        options += ["--partition=gpu", "--account=me", "--constraint=a100|h100", "--slurm=qos=long"]
        text = self.script(capsys, str(config), *options, "--slurm", "exclusive", "seed=3")
        jobs = tmp_path / "runs" / "r.jobs"
        assert lines(text) == [
            "--account=me",
            "--constraint='a100|h100'",
            "--cpus-per-task=6",
            "--exclusive",
            "--gpus-per-node=4",
            "--job-name=ccscale-r",
            "--mem=64G",
            "--nodes=2",
            "--ntasks-per-node=4",
            "--open-mode=append",
            f"--output={jobs}/%j_0_log.out",
            "--partition=gpu",
            "--qos=long",
            "--requeue",
            "--signal=USR2@120",
            "--time=720",
        ]
        step = next(line for line in text.splitlines() if line.startswith("srun "))
        assert f"--output {jobs}/%j_%t_log.out --wait=600 --cpus-per-task=6 " in step
        assert step.endswith(f" -u -m submitit.core._submit {jobs}")
        assert not jobs.parent.exists()

    def test_a_sweep_is_an_array(self, config, tmp_path, capsys):
        found = lines(self.script(capsys, str(config), "--sweep", "seed=0,1,2"))
        assert "--array=0-2%3" in found
        assert f"--output={tmp_path}/runs/r.jobs/%A_%a_0_log.out" in found

    def test_a_day_unless_it_is_told(self, config, capsys):
        assert "--time=1440" in lines(self.script(capsys, str(config)))

    def test_nothing_reaches_the_shell_unquoted(self, config, tmp_path, bin, capsys, monkeypatch):
        """The script is run by a shell: with its names as they are, nothing else happens."""
        folder = tmp_path / "it's $(touch pwned)"
        text = self.script(
            capsys, str(config), f"run={folder}/a;touch pwned", "--slurm", "comment='`touch pwned`"
        )
        command(bin, "srun", f'#!/bin/bash\nprintf "%s\\n" "$@" > {bin}/arguments\n')
        monkeypatch.chdir(bin)
        subprocess.run(["bash", "-c", text], check=True)
        assert f"{folder}/a;touch pwned.jobs" in (bin / "arguments").read_text().splitlines()
        assert not (bin / "pwned").exists()
        assert "--job-name=ccscale-a_touch_pwned" in lines(text)


class TestSubmission:
    def test_prints_job_and_run(self, config, tmp_path, bin, capsys):
        assert main(["launch", str(config), "--json"]) == 0
        jobs = tmp_path / "runs" / "r.jobs"
        expected = {"job": "42", "run": f"{tmp_path}/runs/r", "log": f"{jobs}/42_0_log.out"}
        assert json.loads(capsys.readouterr().out) == {"jobs": [expected]}
        assert (jobs / "42_submitted.pkl").exists()
        assert not (tmp_path / "runs" / "r").exists()  # the run's folder is the job's to make
        assert main(["launch", str(config)]) == 0
        assert capsys.readouterr().out == f"job 42: run {tmp_path}/runs/r, log {jobs}/42_0_log.out\n"

    def test_a_sweep(self, config, tmp_path, bin, capsys):
        assert main(["launch", str(config), "--sweep=seed=5,6", "--json"]) == 0
        jobs = json.loads(capsys.readouterr().out)["jobs"]
        assert [(job["job"], job["run"]) for job in jobs] == [
            ("42_0", f"{tmp_path}/runs/r/seed=5"),
            ("42_1", f"{tmp_path}/runs/r/seed=6"),
        ]
        assert "--array=0-1%2" in lines((bin / "script").read_text())

    def test_a_job_does_not_inherit_another_job_s_place(self, config, bin, capsys, monkeypatch):
        hidden = [
            "RANK",
            "WORLD_SIZE",
            "MASTER_PORT",
            "SLURM_JOB_ID",
            "SLURM_STEP_NUM_TASKS",
            "SUBMITIT_EXECUTOR",
        ]
        for name in [*hidden, "SLURM_CONF", "SBATCH_QOS", "MINE"]:
            monkeypatch.setenv(name, "1")
        assert main(["launch", str(config)]) == 0
        names = {line.partition("=")[0] for line in (bin / "environment").read_text().splitlines()}
        assert not names & set(hidden)
        assert {"SLURM_CONF", "SBATCH_QOS", "MINE"} <= names


class TestMistakes:
    def test_sbatch_refuses(self, config, tmp_path, bin, refused):
        said = "Batch job submission failed: Invalid partition name"
        command(bin, "sbatch", f"#!/bin/bash\necho 'sbatch: error: {said}' >&2; exit 1\n")
        for _ in range(2):
            message = refused("launch", config, "--partition=x")
            assert message == f"sbatch refuses the job: {said}"
            (tmp_path / "runs" / "r.jobs").mkdir(parents=True, exist_ok=True)  # the second time it is there

    def test_no_slurm(self, config, refused, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        assert refused("launch", config).startswith(
            "sbatch is not available here: run this on a machine that has it"
        )

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--nodes=3"], "3 ranks do not divide the 16 lanes of this run; start 1, 2, 4, 8, 16 ranks"),
            (["--gpus-per-node=3"], "3 ranks do not divide the 16 lanes"),
            (["run=null"], "has no key 'run': add run=DIR"),
            (["train.lrr=1"], "there is no key 'train.lrr'"),
            (["run=a%j"], "Slurm replaces %"),
            (["run='a\n\nb'"], "run is "),
            (["--partition", "a\nb"], "--partition is 'a\\nb'; it must be one line"),
            (["--cluster=local", "--nodes=2"], "--cluster local uses this machine only"),
        ],
    )
    def test_found_before_anything_is_submitted(self, config, bin, refused, arguments, expected):
        assert expected in refused("launch", config, *arguments)
        assert not (bin / "script").exists()

    @pytest.mark.parametrize("option", ["--nodes=0", "--nodes=x", "--gpus-per-node=-1", "--cpus-per-task=²"])
    def test_no_number(self, config, option, capsys):
        with pytest.raises(SystemExit) as left:
            main(["launch", str(config), option])
        assert left.value.code == 2
