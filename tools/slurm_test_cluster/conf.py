"""The configuration files of the test cluster: pure text, from the options and the state folder.

Slurm expands no variables, so every path is written out. Several slurmd live on one machine, each under a node name
and a port of its own; "batch_sched_delay", "cred_expire" and the like make short what usually takes minutes.
"""

import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What the cluster is to be."""

    nodes: int = 4
    cpus: int = 8
    """Of a node, whatever the machine has."""
    gpus: int = 0
    """Of a node, pretended: device files with which nothing can be computed."""
    accounting: bool = False
    """Keep past jobs in a database, for sacct."""
    port: int = 17800
    """The first of the ports used: slurmctld, slurmdbd, MariaDB, then a slurmd each."""

    @property
    def names(self) -> list[str]:
        """Return the nodes' names."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def ports(self) -> range:
        """Return all ports that the cluster uses."""
        return range(self.port, self.port + 3 + self.nodes)


def slurm_conf(options: Options, folder: Path) -> str:
    """Return slurm.conf."""
    host, port = socket.gethostname(), options.port
    last = options.nodes
    gres = f" Gres=gpu:{options.gpus}" if options.gpus else ""
    accounting = (
        [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={port + 1}",
            f"AccountingStoragePass={folder}/munge/socket",
        ]
        if options.accounting
        else []
    )
    lines = [
        "ClusterName=ccscale",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={port}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={folder}/munge/socket,cred_expire=5",  # a requeued job waits for so long
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",  # 127.0.0.1 only
        "MailProg=/bin/true",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd.%n.pid",
        f"SlurmdSpoolDir={folder}/spool.%n",
        f"StateSaveLocation={folder}/state",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/slurmd.%n.log",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "ReturnToService=2",
        "SlurmdParameters=config_overrides",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1,sched_min_interval=0",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "JobRequeue=1",
        "SlurmdTimeout=10",
        "KillWait=15",
        "MinJobAge=3600",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "SlurmctldParameters=preempt_send_user_signal",
        "JobAcctGatherType=jobacct_gather/none",
        *accounting,
        *(["GresTypes=gpu"] if options.gpus else []),
        f"NodeName=n[1-{last}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{port + 3}-{port + 2 + last}] "
        f"CPUs={options.cpus} RealMemory=64000{gres} State=UNKNOWN",
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20",
        "PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF",
    ]
    return "\n".join(lines) + "\n"


def gres_conf(options: Options, folder: Path) -> str:
    """Return gres.conf, which gives every node the same device files as its GPUs."""
    return f"Name=gpu File={folder}/gpu[0-{options.gpus - 1}]\n" if options.gpus else ""


def slurmdbd_conf(options: Options, folder: Path) -> str:
    """Return slurmdbd.conf, which only its owner may read, or slurmdbd refuses it."""
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo={folder}/munge/socket",
        f"DbdHost={socket.gethostname()}",
        "DbdAddr=127.0.0.1",
        f"DbdPort={options.port + 1}",
        "SlurmUser=root",
        f"PidFile={folder}/slurmdbd.pid",
        f"LogFile={folder}/log/slurmdbd.log",
        "StorageType=accounting_storage/mysql",
        "StorageHost=127.0.0.1",
        f"StoragePort={options.port + 2}",
        "StorageUser=root",
        "StorageLoc=slurm_acct",
    ]
    return "\n".join(lines) + "\n"
