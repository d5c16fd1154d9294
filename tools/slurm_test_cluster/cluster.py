"""Starts, breaks and stops the cluster. All that it makes lies in one folder, and in marked lines of /etc/hosts.

FOLDER/slurm.conf  gres.conf  slurmdbd.conf
FOLDER/cluster.json    the options, and every process that was started
FOLDER/log/  munge/  state/  spool.n1/ ...  db/  gpu0 ...
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from conf import Options, gres_conf, slurm_conf, slurmdbd_conf
from processes import Process, end, start, wait_until, with_environment

HOSTS = Path("/etc/hosts")
PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "srun": "slurm-client", "munged": "munge"}
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core"}
TABLES = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data")


class Failure(Exception):
    """What went wrong, in a sentence."""


class Cluster:
    """The cluster that is kept in a folder, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = Options()
        self.processes: dict[str, Process] = {}
        if self._record.exists():
            record = json.loads(self._record.read_text())
            self.options = Options(**record["options"])
            self.processes = {name: Process(*numbers) for name, numbers in record["processes"].items()}

    @property
    def _record(self) -> Path:
        return self.folder / "cluster.json"

    @property
    def _mark(self) -> str:
        return f"# Slurm test cluster {self.folder}"

    @property
    def environment(self) -> dict[str, str]:
        """Return what Slurm's commands need to find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def running(self) -> bool:
        """Tell whether any of its processes is."""
        return any(process.running for process in self.processes.values())

    # ---- start

    def start(self, options: Options, install: bool) -> None:
        """Start all daemons and wait until a step runs on every node.

        Raises
        ------
        Failure
            If it cannot be started; then nothing of it is left.
        """
        self._check(options, install)
        self.options = options
        try:
            self._write_files()
            self._start_daemons()
        except BaseException as failure:
            if isinstance(failure, Failure):
                print(self._last_lines(), file=sys.stderr)
            self.stop()
            raise

    def _check(self, options: Options, install: bool) -> None:
        if self.running:
            raise Failure(f"a cluster is running in {self.folder} already; stop it first")
        for parent in self.folder.parents:
            if parent.exists() and not parent.stat().st_mode & 0o001:
                raise Failure(
                    f"munge wants a folder that all can enter, unlike {parent}; name another --folder"
                )
        if os.geteuid() != 0:
            raise Failure("Slurm's daemons must be started by root")
        self.stop()  # what one left that did not end well
        wanted = PACKAGES | (ACCOUNTING if options.accounting else {})
        missing = [
            package for command, package in wanted.items() if shutil.which(command, path=_PATH) is None
        ]
        if missing and not install:
            raise Failure(
                f"not installed: {', '.join(missing)}; `start --install`, or "
                f"apt-get install --no-install-recommends {' '.join(missing)}"
            )
        if missing:
            _install(missing)
        for port in options.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise Failure(f"port {port} is in use; name the first of others with --port") from None

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, mode=0o755)
        self.folder.chmod(0o755)  # munged and slurmd look at it, whatever the umask
        self._save()
        for name in ("log", "state", *(f"spool.{node}" for node in self.options.names)):
            (self.folder / name).mkdir(mode=0o755)
        munge = self.folder / "munge"
        munge.mkdir()
        munge.chmod(0o711)
        _write(munge / "key", os.urandom(128), 0o600)
        for number in range(self.options.gpus):
            device = self.folder / f"gpu{number}"
            os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))  # another /dev/null
        _write(self.folder / "slurm.conf", slurm_conf(self.options, self.folder).encode(), 0o644)
        _write(self.folder / "gres.conf", gres_conf(self.options, self.folder).encode(), 0o644)
        if self.options.accounting:
            _write(self.folder / "slurmdbd.conf", slurmdbd_conf(self.options, self.folder).encode(), 0o600)
        with open(HOSTS, "a") as hosts:  # so that MASTER_ADDR=n1 is found
            hosts.writelines(f"127.0.0.1 {name} {self._mark}\n" for name in self.options.names)

    def _start_daemons(self) -> None:
        munge = self.folder / "munge"
        options = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        files = [f"--{option}={munge}/{name}" for option, name in options.items()]
        self._start("munged", ["munged", "--foreground", *files])
        self._await("munged", lambda: (munge / "socket").exists())
        if self.options.accounting:
            self._start_accounting()
        self._start("slurmctld", ["slurmctld", "-D", "-f", self.environment["SLURM_CONF"]])
        for name in self.options.names:
            self.start_node(name)
        count = str(self.options.nodes)
        # That sinfo calls a node idle is not enough.
        works = ["srun", "--immediate=5", f"--nodes={count}", f"--ntasks={count}", "hostname"]
        self._await("slurmctld", lambda: self.ask(*works, seconds=20) is not None, 60)

    def _start_accounting(self) -> None:
        data, shared = self.folder / "db", Path("/usr/share/mysql")
        data.mkdir()
        script = "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n" + "".join(
            (shared / f"{table}.sql").read_text() for table in TABLES
        )
        plain = ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"]
        made = subprocess.run(
            [*plain, "--bootstrap"], input=script, capture_output=True, text=True, env=_environment()
        )
        if made.returncode:
            said = [line for line in made.stderr.splitlines() if "ERROR" in line] or ["it says nothing"]
            raise Failure(f"the database cannot be made: {said[0]}")
        place = ["--bind-address=127.0.0.1", f"--port={self.options.port + 2}", "--skip-name-resolve"]
        files = [f"--socket={self.folder}/db.socket", f"--pid-file={self.folder}/db.pid"]
        self._start("mariadbd", [*plain, *place, *files, "--innodb-lock-wait-timeout=900"])
        self._await("mariadbd", lambda: (self.folder / "db.socket").exists())
        self._start("slurmdbd", ["slurmdbd", "-D"])
        self._await("slurmdbd", lambda: self.ask("sacctmgr", "-n", "show", "cluster") is not None)
        self.ask("sacctmgr", "-i", "add", "cluster", "ccscale")

    def start_node(self, name: str) -> None:
        """Start a node's daemon: at first, or again after `kill_node`."""
        if name not in self.options.names:
            raise Failure(f"there is no node {name}; there are {', '.join(self.options.names)}")
        if self.processes.get(name, Process(0, 0)).running:
            raise Failure(f"node {name} is running")
        self._start(name, ["slurmd", "-D", "-N", name, "-f", self.environment["SLURM_CONF"]])

    def _start(self, name: str, command: Sequence[str]) -> None:
        log = self.folder / "log" / f"{name}.out"
        self.processes[name] = start(
            [shutil.which(command[0], path=_PATH) or command[0], *command[1:]], log, self.environment
        )
        self._save()

    def _await(self, name: str, reached: Callable[[], bool], seconds: float = 30) -> None:
        def done() -> bool:
            if not self.processes[name].running:
                raise Failure(f"{name} has ended")
            return reached()

        if not wait_until(done, seconds):
            raise Failure(f"{name} does not answer after {seconds} s")

    # ---- break

    def kill_node(self, name: str) -> None:
        """End a node as a power cut does: its daemon, its steps and their tasks at once.

        The controller is not told. It finds out after SlurmdTimeout (10 s, looked at now and then: some 25 s).
        """
        if name not in self.options.names or not self.processes[name].running:
            raise Failure(f"there is no running node {name}")
        steps = self._steps(name)  # to be found by their tasks, so before these are killed
        cut = [self.processes[name], *steps, *self._tasks(name)]
        for process in cut:
            process.signal(signal.SIGKILL)
        if not wait_until(lambda: not any(process.running for process in cut), 10):
            raise Failure(f"processes of {name} are still there, 10 s after they were killed")

    def _tasks(self, node: str) -> list[Process]:
        """Return the processes of jobs on a node."""
        return with_environment(self.environment | {"SLURMD_NODENAME": node})

    def _steps(self, node: str | None = None) -> list[Process]:
        """Return the processes that look after a step: those of a node's tasks, or all of this cluster."""
        steps = [process for process in with_environment(self.environment) if process.name == "slurmstepd"]
        parents = {task.parent for task in self._tasks(node)} if node else set(steps)
        return [step for step in steps if step in parents]

    # ---- stop and tell

    def stop(self) -> None:
        """End the jobs and all that was started, and remove the folder and the lines in /etc/hosts.

        Raises
        ------
        Failure
            If the folder is not a cluster's.
        """
        if not self.folder.exists():
            return
        if not self._record.exists():
            raise Failure(f"{self.folder} holds something else; name another --folder")
        if self.processes.get("slurmctld", Process(0, 0)).running:
            self.ask("scancel", "--state=PENDING", "--quiet", *self._jobs())
            self.ask("scancel", "--signal=KILL", "--full", "--quiet", *self._jobs())
        for names in (self.options.names, ["slurmctld"], ["slurmdbd"], ["mariadbd"], ["munged"]):
            end(self.processes[name] for name in names if name in self.processes)
        end([*self._steps(), *(task for name in self.options.names for task in self._tasks(name))], 0)
        lines = HOSTS.read_text().splitlines(keepends=True)
        others = [line for line in lines if not line.rstrip().endswith(self._mark)]
        if (
            others != lines
        ):  # in place: in a container the file is often a mount, which cannot be renamed over
            HOSTS.write_text("".join(others))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _jobs(self) -> list[str]:
        return (self.ask("squeue", "--noheader", "--format=%A") or "").split()

    def status(self) -> str:
        """Return a line a node and a line a job, and what has ended."""
        ended = [name for name, process in self.processes.items() if not process.running]
        nodes = self.ask("sinfo", "--Node", "--noheader", "--partition=main", "--format=%N %T") or ""
        jobs = self.ask("squeue", "--noheader", "--format=job %i %T %N %j") or ""
        return nodes + jobs + "".join(f"{name} has ended\n" for name in ended)

    def ask(self, *command: str, seconds: float = 20) -> str | None:
        """Return what one of Slurm's commands prints; None if it fails."""
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=seconds,
                env=_environment() | self.environment,
            )
        except subprocess.TimeoutExpired:
            return None
        return None if done.returncode else done.stdout

    def _save(self) -> None:
        processes = {name: (process.pid, process.started) for name, process in self.processes.items()}
        record = {"options": asdict(self.options), "processes": processes}
        _write(self._record, json.dumps(record).encode(), 0o644)

    def _last_lines(self) -> str:
        """Return the ends of the logs, for the one who has to find out."""
        parts = []
        for path in sorted((self.folder / "log").glob("*")):
            lines = path.read_text(errors="replace").splitlines()[-5:]
            parts += [f"{path.name}: {line}" for line in lines]
        return "\n".join(parts)


_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": _PATH}


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
    path.chmod(mode)


def _install(packages: Sequence[str]) -> None:
    if shutil.which("apt-get") is None:
        raise Failure(f"not installed, and there is no apt-get here: {', '.join(packages)}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *command], capture_output=True, text=True, env=quiet)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
            raise Failure(f"apt-get {command[0]} failed: {said[-1]}")
