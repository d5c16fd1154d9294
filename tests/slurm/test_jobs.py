"""The scripts in slurm/ and ``ccscale launch`` on a real Slurm: what is broken off ends as if it had not been.

All jobs run at the same time, each with a thread here that does to it what is to be done; their steps are slow
until then (slow/sitecustomize.py), so that they cost no computing while they wait.
"""

import csv
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import make_images, small_settings
from jobs import Job, break_node, call
from runs import train

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1200)]

STEPS, SAVE_EVERY = 40, 3
VICTIM = "n2"
SPARED = "n3,n4"  # no job but those that lose a node may be given it
LONG = 1200


class Cluster:
    """All jobs, begun at once."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder, self.config = folder, config
        self.numbers: list[str] = []
        self.pool = ThreadPoolExecutor()
        self.both_can_lose_a_node = threading.Barrier(2, action=self.strike)
        self.struck_down = False
        self.futures: dict[str, Future[list[Job]]] = {}
        for way, submit in {"sbatch": self.sbatch, "launch": self.launch}.items():
            self.begin(f"{way}-warned", self.warned, submit)
            self.begin(f"{way}-struck", self.struck, submit)
        self.begin("sbatch-seeds", self.seeds, self.sbatch_array, 2)
        self.begin("launch-seeds", self.seeds, self.launch_array, 0)
        self.begin("followed", self.followed)
        self.begin("converted", self.converted)

    def begin(self, name: str, scenario: Callable[..., list[Job]], *arguments: object) -> None:
        self.futures[name] = future = self.pool.submit(scenario, name, *arguments)
        future.add_done_callback(lambda done: self.let_go() if done.exception() else None)

    def strike(self) -> None:
        break_node("kill", VICTIM)
        self.struck_down = True

    def let_go(self) -> None:
        """Leave none waiting for one that has failed."""
        self.both_can_lose_a_node.abort()

    def __getitem__(self, name: str) -> list[Job]:
        return self.futures[name].result(LONG)

    # ---- ways to submit

    def sbatch(self, name: str, options: list[str], slow: tuple[int, float] = (0, 0.0)) -> Job:
        run = self.folder / name
        return self.note(
            Job.batch("train.sbatch", ["--nodes=2", *options], [str(self.config), f"run={run}"], run, slow)
        )

    def launch(self, name: str, options: list[str], slow: tuple[int, float] = (0, 0.0)) -> Job:
        own = ("--nodes", "--time", "--follow")  # the others are sbatch's
        options = [o if o.startswith(own) else f"--slurm={o.removeprefix('--')}" for o in options]
        (job,) = Job.launch(self.config, self.folder / name, ["--nodes=2", *options], slow)
        return self.note(job)

    def sbatch_array(self, name: str, slow: tuple[int, float]) -> list[Job]:
        runs = self.folder / name
        options, arguments = (
            ["--nodes=1", "--array=0-2", f"--exclude={VICTIM}"],
            [str(runs), str(self.config)],
        )
        array = self.note(Job.batch("seeds.sbatch", options, arguments, runs, slow))
        return [array.task(number) for number in range(3)]

    def launch_array(self, name: str, slow: tuple[int, float]) -> list[Job]:
        options = ["--sweep=seed=0,1,2", f"--slurm=exclude={VICTIM}"]
        return [self.note(job) for job in Job.launch(self.config, self.folder / name, options, slow)]

    def note(self, job: Job) -> Job:
        self.numbers.append(job.number)
        return job

    # ---- what happens to them

    def followed(self, name: str) -> list[Job]:
        """Nothing happens to it."""
        job = self.launch(name, ["--nodes=1", f"--exclude={VICTIM}", "--follow"])
        job.wait_for_end()
        return [job]

    def warned(self, name: str, submit: Callable[..., Job]) -> list[Job]:
        """Its time ends, and it is requeued by hand."""
        job = submit(name, ["--nodes=1", "--time=60", f"--exclude={VICTIM}"], slow=(2, 4.0))
        job.wait_for_life(0, steps=1)
        job.leave_minutes(2)  # it is warned so long before its end
        job.wait_for_life(1)
        job.leave_minutes(60)
        job.wait_for_life(1, steps=job.steps + 1)
        call("scontrol", "requeue", job.number)
        job.wait_for_life(2)
        job.wait_for_end()
        return [job]

    def struck(self, name: str, submit: Callable[..., Job]) -> list[Job]:
        """One of its ranks is killed, and nothing else: neither its node nor the other rank; then a node dies."""
        # Kept from the others, or its second life may begin there, while its nodes still end the first.
        # So slow that it has steps left when the other one has come as far, on a busy machine, too.
        job = submit(name, [f"--exclude={SPARED}"], slow=(2, 3.0))
        job.wait_for_life(0, steps=SAVE_EVERY + 2)
        job.kill_rank(1)
        job.wait_for_life(1)
        job.wait_for_life(1, steps=job.steps + SAVE_EVERY + 2)
        assert job.field("NodeList") == f"n[1-{VICTIM[1:]}]"
        self.both_can_lose_a_node.wait(LONG)
        job.allow_all_nodes()
        job.wait_for_life(2)
        job.wait_for_end()
        return [job]

    def seeds(self, name: str, submit: Callable[..., list[Job]], signalled: int) -> list[Job]:
        """Three seeds: one is told to stop, and one cancelled.

        Slurm gives the last task of an array the array's own number: what it does by that, it does to all.
        """
        jobs = submit(name, (1, 1.0))
        for job in jobs:
            job.wait_for_life(0, steps=2)
        call("scancel", f"--signal={'USR2' if name.startswith('launch') else 'USR1'}", jobs[signalled].number)
        call("scancel", jobs[1].number)
        jobs[signalled].wait_for_life(1)
        for job in jobs:
            job.wait_for_end()
        return jobs

    def converted(self, name: str) -> list[Job]:
        images, out = make_images(self.folder / "images", 20), self.folder / "shards"
        options = ["--ntasks-per-node=1", f"--exclude={VICTIM}"]
        job = self.note(Job.batch("convert.sbatch", options, ["folder", str(images), str(out)], out))
        job.wait_for_end()
        return [job]

    def end(self) -> None:
        self.let_go()
        if self.struck_down:
            break_node("revive", VICTIM)
        call("scancel", "--quiet", *self.numbers)
        self.pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def cluster(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    conf = os.environ.get("SLURM_CONF")
    if conf is None or not Path(conf).with_name("cluster.json").exists():  # never on somebody's real cluster
        pytest.skip('the Slurm test cluster is not up: eval "$(python tools/slurm_test_cluster start)"')
    folder = tmp_path_factory.mktemp("slurm")
    changes = {"max_steps": STEPS, "epochs": 100, "save_every": SAVE_EVERY, "rank_timeout": 30}
    config = folder / "config.yaml"
    settings = small_settings(
        shards, folder / "run", **{f"train__{name}": value for name, value in changes.items()}
    )
    config.write_text(json.dumps(settings))
    cluster = Cluster(folder, config)
    try:
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def unbroken(cluster: Cluster) -> Path:
    """The run on two ranks that nothing happens to, without Slurm."""
    run = cluster.folder / "unbroken"
    train(cluster.config, 2, [f"run={run}"])
    return run


WAYS = pytest.mark.parametrize("way", ["sbatch", "launch"])


class TestTraining:
    @WAYS
    def test_its_time_ends_and_it_is_requeued_by_hand(self, cluster: Cluster, way: str) -> None:
        (job,) = cluster[f"{way}-warned"]
        assert (job.field("JobState"), job.restarts) == ("COMPLETED", 2)
        assert job.losses() == cluster["sbatch-seeds"][0].losses()

    @WAYS
    def test_on_two_nodes_a_rank_is_lost_and_then_a_node(
        self, cluster: Cluster, unbroken: Path, way: str
    ) -> None:
        """The other rank names the one that is lost, ends, and the job goes on from the newest checkpoint."""
        (job,) = cluster[f"{way}-struck"]
        assert (job.field("JobState"), job.restarts, job.field("NumNodes")) == ("COMPLETED", 2, "2")
        assert VICTIM not in call("scontrol", "show", "hostnames", job.field("NodeList")).split()
        assert job.losses() == Job("", unbroken).losses()

    def test_one_that_is_followed(self, cluster: Cluster) -> None:
        (job,) = cluster["followed"]
        assert (job.field("JobState"), job.restarts) == ("COMPLETED", 0)
        assert job.losses() == cluster["sbatch-seeds"][0].losses()


class TestArrays:
    """Seed 2 of one way was told to stop, and seed 0 of the other; seed 1 was cancelled."""

    @pytest.mark.parametrize(("way", "signalled"), [("sbatch", 2), ("launch", 0)])
    def test_only_the_task_that_was_told_to_stop_goes_on(
        self, cluster: Cluster, way: str, signalled: int
    ) -> None:
        jobs = cluster[f"{way}-seeds"]
        assert [job.field("JobState") for job in jobs] == ["COMPLETED", "CANCELLED", "COMPLETED"]
        assert [job.restarts for job in jobs] == [int(number == signalled) for number in range(3)]
        assert 2 <= jobs[1].steps < STEPS

    @pytest.mark.parametrize("seed", [0, 2])
    def test_each_seed_s_losses(self, cluster: Cluster, seed: int) -> None:
        one, other = cluster["sbatch-seeds"][seed].losses(), cluster["launch-seeds"][seed].losses()
        assert len(one) == STEPS
        assert one == other

    def test_the_seeds_differ(self, cluster: Cluster) -> None:
        jobs = cluster["sbatch-seeds"]
        assert jobs[0].losses() != jobs[2].losses()


class TestOtherScripts:
    def test_convert(self, cluster: Cluster) -> None:
        (job,) = cluster["converted"]
        assert job.field("JobState") == "COMPLETED"
        assert json.loads((job.run / "dataset.json").read_text())["name"]

    def test_evaluate_and_predict(self, cluster: Cluster, shards: Path) -> None:
        """On two nodes, and on one."""
        run, table = cluster["sbatch-struck"][0].run, cluster.folder / "table.csv"
        options = [f"--exclude={VICTIM}"]
        outputs = [cluster.folder / "evaluate", cluster.folder / "predict"]
        jobs = [
            Job.batch(
                "evaluate.sbatch", ["--nodes=2", *options], [str(run), "--json", "--no-k-means"], outputs[0]
            ),
            Job.batch(
                "predict.sbatch",
                options,
                [str(run), "--shards", str(shards), "--out", str(table)],
                outputs[1],
            ),
        ]
        assert [job.wait_for_end() for job in jobs] == ["COMPLETED", "COMPLETED"]
        (said,) = cluster.folder.glob("evaluate-*.out")
        found = next(json.loads(line) for line in said.read_text().splitlines() if line.startswith("{"))
        assert (found["step"], found["images"]) == (STEPS, 150)
        with open(table) as file:
            assert len(list(csv.DictReader(file))) == 150
