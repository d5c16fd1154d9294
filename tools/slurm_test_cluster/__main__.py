"""A real Slurm with several nodes on this machine, for tests: started and stopped by one command each.

    eval "$(python tools/slurm_test_cluster start)"    # sets SLURM_CONF
    srun --nodes 2 --ntasks 2 hostname
    python tools/slurm_test_cluster status
    python tools/slurm_test_cluster stop

Debian's packages slurmctld, slurmd, slurm-client and munge (and slurmdbd, mariadb-server-core for --accounting), by
root. Nothing is left behind but the packages. `kill NODE` ends a node as a power cut does, `revive NODE` starts it
again.
"""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from cluster import Cluster, Failure
from conf import Options


def main() -> int:
    """Run one command; 0 if it did what was asked."""
    default = Options()
    parser = argparse.ArgumentParser(
        prog="slurm_test_cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "ccscale-slurm",
        help="for all that it needs (default: %(default)s)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    start = verbs.add_parser(
        "start", parents=[common], help="start, wait until jobs run, print how to use it"
    )
    start.add_argument("--nodes", type=int, default=default.nodes, help="default: %(default)s")
    start.add_argument("--cpus", type=int, default=default.cpus, help="of a node (default: %(default)s)")
    start.add_argument("--gpus", type=int, default=0, help="of a node, pretended (default: none)")
    start.add_argument("--accounting", action="store_true", help="with a database, for sacct")
    start.add_argument("--port", type=int, default=default.port, help="first port (default: %(default)s)")
    start.add_argument("--install", action="store_true", help="install missing packages with apt-get")
    verbs.add_parser("stop", parents=[common], help="end all of it and remove the folder")
    verbs.add_parser("status", parents=[common], help="nodes and jobs")
    verbs.add_parser("kill", parents=[common], help="cut a node's power").add_argument("node", metavar="NODE")
    verbs.add_parser("revive", parents=[common], help="start a killed node again").add_argument(
        "node", metavar="NODE"
    )
    args = parser.parse_args()
    cluster = Cluster(args.folder.resolve())
    try:
        if args.verb == "start":
            options = Options(args.nodes, args.cpus, args.gpus, args.accounting, args.port)
            cluster.start(options, args.install)
            place = "" if args.folder == common.get_default("folder") else f" --folder {args.folder}"
            print(f"{options.nodes} nodes are up; stop them with {_myself()} stop{place}", file=sys.stderr)
            print(f"export SLURM_CONF={shlex.quote(cluster.environment['SLURM_CONF'])}")
        elif args.verb == "stop":
            cluster.stop()
        elif not cluster.running:
            print(f"no cluster is running in {args.folder}", file=sys.stderr)
            return 1
        elif args.verb == "status":
            sys.stdout.write(cluster.status())
        elif args.verb == "kill":
            cluster.kill_node(args.node)
        else:
            cluster.start_node(args.node)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


def _myself() -> str:
    return f"python {os.path.relpath(Path(__file__).parent)}"


if __name__ == "__main__":
    sys.exit(main())
