#!/usr/bin/env python
"""Kill a command at random moments, start it again, and compare what comes of it with an unbroken run.

    python tools/faults/kill_often.py conversion KIND [SOURCE] [--kills 20] [--seed 0] [options of `shards make`]
    python tools/faults/kill_often.py embedding SHARDS [--ranks W] [--kills 20] [--small] [options of `embed`]
    python tools/faults/kill_often.py training CONFIG [--ranks W] [--kills 20] [--serve DIR] [key=value ...]
    python tools/faults/kill_often.py training CONFIG data.features=STORE [--ranks W] [--kills 20] [key=value ...]
    python tools/faults/kill_often.py living RUN SHARDS SHARDS [--ranks W] [--also W] [--kills 20]

The moments are drawn from the seed: some fall into the start of the process, the others into its work, such that
it comes to its end between the kills now and then, and is compared then: all files of a conversion or a store; of
a run the batches, losses and evaluations, and the weights at its end, bit for bit. Of a run every third moment
waits for something that is soon over (a checkpoint being written, renamed, deleted; an evaluation; a conversion
to another number of ranks). With several ranks all are killed, or a single one; then the others must end by
themselves.

Of a run with living clusters (`living`) a copy is kept for days: updates, accepted and refused proposals,
rollbacks, one after the other; at each kill the current version must be whole, with each image once.

With --also two lives have another number of ranks, the next two the first again, and so on, and the losses are held
to a tolerance. With --serve the shards in a folder are streamed over HTTP, from a server that fails one request in
twenty, through a cache that every start finds as the last kill left it. With --fork the ranks are copies of a
process that has imported all they need: that saves each life the seconds of the imports, and spares those the
kills. With --small, which forks too, a store is made in small parts, and its neighbours (--neighbours K) in cells.

Standard output has a line for each kill and what came of it (or, with --json, one object at the end), --log a file
with an object a line for each kill; the exit code is 1 if anything differs.
"""

import argparse
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))
from commands import COMMANDS, Command, compare, evaluated_steps
from kills import LIMIT, Kill, Moment, kill_often
from lives import Life, Start, fork, spawn
from living import live_on
from servers import ShardServer
from under_way import EVENTS, UnderWay

LIVES_A_ROUND = 6
SECONDS_OF = {"staging": 0.1, "rename": 0.005, "deletion": 0.002, "evaluation": 0.1, "conversion": 0.2}
"""How long after it is seen an event may be killed."""
CCSCALE = [sys.executable, "-m", "ccscale"]


@dataclass(frozen=True)
class Plan:
    """How it is killed.

    Attributes
    ----------
    kills, seed
        How often; of the moments.
    ranks, also
        Number of ranks of two lives, of the next two, if it is another, and so on.
    tolerance
        Relative, of losses, where it is.
    forked
        Whether ranks are copies of a process that has made their imports.
    small
        Whether a store is made in small parts; then they are forked.
    log
        A file for a line of JSON for each kill.
    quiet
        Whether standard output is for the result alone.
    """

    kills: int
    seed: int = 0
    ranks: int = 1
    also: int | None = None
    tolerance: float = 0.0
    forked: bool = False
    small: bool = False
    log: Path | None = None
    quiet: bool = False


def carry_out(command: Command, arguments: list[str], plan: Plan, folder: Path) -> dict[str, Any]:
    """Kill a command.

    Parameters
    ----------
    command
        Which.
    arguments
        Its own, without those of `command.options`.
    plan
        How often, and how.
    folder
        A new folder for what it makes.

    Returns
    -------
    dict
        ``seconds`` and ``startup`` of the unbroken run, the number of ``facts``, ``rounds`` (how often it came to
        its end), ``different`` (names of facts that differ, in each round), ``worst`` (the largest relative
        difference of a loss), ``at`` (how many kills fell into what), ``kills``.
    """

    def started(out: Path) -> Start:
        line = [*command.verb, *arguments, *command.options(out)]
        if command is COMMANDS["living"]:
            return fork(line, live_on)
        if plan.small:
            from small_parts import small_parts  # with all of torch

            return fork(line, small_parts)
        return fork(line) if plan.forked else spawn([*CCSCALE, *line])

    unbroken, broken = folder / "unbroken", folder / "broken"
    unhurt = seconds, startup = _time(Life(started(unbroken), plan.ranks), unbroken, command.first)
    expected = command.facts(unbroken)
    watch = UnderWay(broken, evaluated_steps(unbroken)) if command.watched else None
    events = [event for event in EVENTS if event != "conversion" or plan.also] if watch else []
    total = sum(name.startswith("step ") for name in expected)
    rng = random.Random(plan.seed)
    rounds: list[tuple[list[str], float]] = []
    also = plan.also or plan.ranks
    worlds = itertools.cycle([plan.ranks, plan.ranks, also, also])
    kind = started(broken)
    life: Life | None = None

    def start() -> Life:
        nonlocal life
        if watch is not None:
            watch.begin()
        life = Life(kind, next(worlds))
        return life

    def finished() -> None:
        """Compare; and where a life was quicker than the unbroken run, kill the next ones sooner."""
        nonlocal seconds, startup
        assert life is not None
        if life.seconds < seconds:
            seconds, startup = life.seconds, startup * life.seconds / seconds
        rounds.append(compare(expected, command.facts(broken), plan.tolerance))

    def draw() -> Moment:
        sort, event, part, share = (
            rng.random(),
            rng.choice(events) if events else "",
            rng.random(),
            rng.random(),
        )
        part *= min(1, LIVES_A_ROUND / plan.kills)
        if sort < 0.15:
            return Moment(share * startup)
        if command.under_way is not None:
            ahead, under_way = rng.randrange(3), command.under_way
            first = command.state(broken).get("steps", 0)
            return Moment(
                0, "", lambda: under_way(broken, first, ahead), share * SECONDS_OF["evaluation"] * 5
            )
        if watch is None:
            return Moment(startup + part * (seconds - startup))
        # Steps are counted, not seconds: the machine may be busier, or less busy, than it was.
        if sort < 0.55:
            return Moment(0, event, lambda: sees(event, part / 2 * total), share * SECONDS_OF[event])
        return Moment(0, "", lambda: watch.steps() > part * total, share * (seconds - startup) / total)

    def sees(event: str, steps: float) -> bool:
        """Tell whether an event is seen after so many steps; a conversion comes before the first, if it comes."""
        assert watch is not None
        if event == "conversion":
            return watch.sees(event) or watch.steps() > 0
        return watch.steps() > steps and watch.sees(event)

    def observe() -> dict[str, Any]:
        return ({} if watch is None else {"at": watch.now()}) | command.state(broken)

    def told(kill: Kill) -> None:
        done.append(kill)
        print(_line(plan.seed, kill), file=sys.stderr if plan.quiet else sys.stdout, flush=True)
        if plan.log is not None:
            with open(plan.log, "a", encoding="utf-8") as file:
                file.write(json.dumps({"seed": plan.seed, **asdict(kill)}) + "\n")

    done: list[Kill] = []
    kill_often(
        start,
        plan.kills,
        rng,
        draw,
        observe,
        finished=finished,
        restart=lambda: shutil.rmtree(broken),
        told=told,
    )
    return {
        "command": [*command.verb, *arguments],
        "seed": plan.seed,
        "ranks": [plan.ranks, *([plan.also] if plan.also else [])],
        "seconds": round(unhurt[0], 2),
        "startup": round(unhurt[1], 2),
        "facts": len(expected),
        "rounds": len(rounds),
        "different": [names for names, _ in rounds],
        "worst": max(worst for _, worst in rounds),
        "at": dict(Counter(kill.state["at"] for kill in done if "at" in kill.state)),
        "kills": [asdict(kill) for kill in done],
    }


@contextmanager
def _served(folder: str | None) -> Iterator[list[str]]:
    """Serve the shards in a folder, if there is one; yield the settings that read them there."""
    if folder is None:
        yield []
        return
    with ShardServer(Path(folder)) as server:
        server.fail_at_random(0, 0.05, ("503", "cut", "reset", "short"))
        yield [f"data.shards={server.url}"]


def _time(life: Life, out: Path, first: str) -> tuple[float, float]:
    """Wait for a life's end; return its seconds, and those until there was a file of the pattern `first`."""
    startup = None
    while life.code() is None:
        if startup is None and any(out.glob(first)):
            startup = life.seconds
        time.sleep(0.01)
    seconds = life.seconds
    life.finish(LIMIT)
    return seconds, seconds if startup is None else startup


def _line(seed: int, kill: Kill) -> str:
    state = dict(kill.state)
    at = f", under way: {state.pop('at')}" if "at" in state else ""
    waited = f" (waited for: {kill.event})" if kill.event else ""
    others = f"; the others {kill.survivors}" if kill.survivors else ""
    facts = ", ".join(f"{name} {value}" for name, value in state.items())
    return (
        f"seed {seed}, round {kill.round}, ranks {kill.ranks}: killed {kill.target} after {kill.life:.2f} s{at}"
        f"{waited}; {facts}{others}"
    )


def main() -> int:
    """Parse, kill, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="what", required=True)
    verbs_of = {"conversion": "shards make", "embedding": "embed", "training": "train", "living": "update"}
    for name, killed in verbs_of.items():
        verb = verbs.add_parser(name, help=f"kill `ccscale {killed}`", allow_abbrev=False)
        verb.add_argument("--kills", type=int, default=20)
        verb.add_argument("--seed", type=int, default=0, help="of the moments")
        verb.add_argument("--log", type=Path, metavar="FILE", help="a line of JSON for each kill")
        verb.add_argument("--json", action="store_true")
        verb.set_defaults(ranks=1, also=None, tolerance=0.0, fork=False, small=False, serve=None)
        if name == "conversion":
            continue
        verb.add_argument("--ranks", type=int, metavar="W", help="processes (default: 1)")
        verb.add_argument("--also", type=int, metavar="W", help="ranks of two lives, then W again for two")
        if name == "living":
            continue
        verb.add_argument(
            "--fork",
            action="store_true",
            help="start ranks as copies of a process that has made their imports",
        )
        if name == "embedding":
            verb.add_argument("--small", action="store_true", help="in small parts")
        if name == "training":
            verb.add_argument(
                "--tolerance", type=float, help="of losses, relative, with --also (default: 1e-3)"
            )
            verb.add_argument(
                "--serve", metavar="DIR", help="stream the shards in DIR over HTTP, with faults"
            )
    args, arguments = parser.parse_known_args()
    tolerance = (args.tolerance or 1e-3) if args.also and args.what == "training" else 0.0
    plan = Plan(
        args.kills, args.seed, args.ranks, args.also, tolerance, args.fork, args.small, args.log, args.json
    )
    with tempfile.TemporaryDirectory() as folder, _served(args.serve) as settings:
        result = carry_out(COMMANDS[args.what], [*arguments, *settings], plan, Path(folder))
    if args.json:
        print(json.dumps(result))
    else:
        print(f"unbroken: {result['seconds']} s, {result['startup']} s of it to the first result")
        print(f"killed in: {', '.join(f'{name} {count}' for name, count in sorted(result['at'].items()))}")
        print(
            f"{result['rounds']} came to their end; of {result['facts']} facts differ: {result['different']}; "
            f"largest relative difference of a loss: {result['worst']:.1e}"
        )
    return 1 if any(result["different"]) else 0


if __name__ == "__main__":
    sys.exit(main())
