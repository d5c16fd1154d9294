"""What is asked of Slurm is checked before it is submitted."""

import pytest

from ccscale.errors import InputError
from ccscale.launch.resources import Resources, parse_extra, parse_memory, parse_time


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:01", 91),
        ("0:59", 1),
        ("24:00:00", 1440),
        ("0:00:01", 1),
        ("1-0", 1440),
        ("2-12", 3600),
        ("1-01:30", 1530),
        ("3-00:00:01", 4321),
    ],
)
def test_time(text, minutes):
    assert parse_time(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "1h", "-1", "1:2:3:4", "1-", "0:0", "90\n"])
def test_no_time(text):
    with pytest.raises(InputError, match="is not a time; write minutes"):
        parse_time(text)


@pytest.mark.parametrize(("text", "found"), [("64G", "64G"), ("64GB", "64G"), ("512MiB", "512M"), ("0", "0")])
def test_memory(text, found):
    assert parse_memory(text) == found


@pytest.mark.parametrize("text", ["64", "G", "6.5G", "64G --qos=x", ""])
def test_no_memory(text):
    with pytest.raises(InputError, match="is not an amount of memory"):
        parse_memory(text)


def test_extra_options():
    assert parse_extra(["qos=long", "--mail_type=END", "exclusive", "comment=a=b c"]) == (
        ("qos", "long"),
        ("mail-type", "END"),
        ("exclusive", True),
        ("comment", "a=b c"),
    )


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("nodes=2", "use --nodes"),
        ("ntasks_per_node=2", "use --tasks-per-node"),
        ("array=0-3", "use --sweep"),
        ("output=x", "ccscale sets this itself"),
        ("no-requeue", "ccscale sets this itself"),
        ("qos=", "must be one line that is not empty"),
        ("qos=long\nrm -rf x", "must be one line that is not empty"),
        ("qos=long\rx", "must be one line that is not empty"),
        ("q$(x)=1", "is not an sbatch option"),
        ("=1", "is not an sbatch option"),
    ],
)
def test_extra_options_that_are_refused(option, expected):
    with pytest.raises(InputError) as error:
        parse_extra([option])
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("resources", "tasks", "ranks"),
    [
        (Resources(), 1, 1),
        (Resources(nodes=2, gpus_per_node=8), 8, 16),
        (Resources(nodes=3, tasks_per_node=2), 2, 6),
        (Resources(gpus_per_node=4, tasks_per_node=1), 1, 1),
    ],
)
def test_a_task_a_gpu(resources, tasks, ranks):
    assert (resources.tasks, resources.ranks) == (tasks, ranks)
