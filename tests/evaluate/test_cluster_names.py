"""Names of clusters: said by hand, kept in a file, and what all else makes of them."""

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccscale.cli.main import main
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import FILE, ClusterNames

BASIS = {"step": 2, "weights": "abc", "head": 0}
CALLS = st.one_of(
    st.tuples(st.just("named"), st.integers(0, 5), st.sampled_from(["", "cats", "日本", "</script>"])),
    st.tuples(st.just("joined"), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("marked"), st.integers(0, 5)),
)


@settings(max_examples=30)
@given(st.lists(CALLS, max_size=12))
def test_whatever_is_said_stays_whole_and_is_read_as_written(tmp_path_factory, calls):
    names = ClusterNames(BASIS)
    for how, *arguments in calls:
        try:
            names = getattr(names, how)(*arguments)
        except InputError:
            assert how == "joined"  # of what would be part of itself
    names.check(6)
    assert all(names.whole(cluster) not in names.into for cluster in range(6))
    folder = tmp_path_factory.mktemp("names", numbered=True)
    names.save(folder)
    assert ClusterNames.load(folder) == names
    assert ClusterNames.load(folder).digest == names.digest


def test_what_a_cluster_is_called():
    names = (
        ClusterNames(BASIS)
        .named(3, "cats")
        .joined(5, 3)
        .joined(6, 5)
        .joined(0, 1)
        .named(2, "blurred")
        .marked(2)
    )
    assert [names.of(i) for i in range(7)] == ["1", None, "junk", "cats", None, "cats", "cats"]
    known = ["eels", "newts", None, "dogs", "hens", None, None]
    assert [names.of(i, known) for i in range(7)] == [
        "newts",
        "newts",
        "junk",
        "cats",
        "hens",
        "cats",
        "cats",
    ]
    assert names.named(5, "").clusters == [0, 2, 3, 6]
    assert names.is_of("abc", 0)
    assert not names.living().is_of("abc", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "holds no names of clusters"),
        ("[]", "holds no names of clusters"),
        ('{"format": "other"}', "it is of another format"),
        ({"version": 2}, "it is of a later release"),
        ({"clusters": {"x": {}}}, "holds no names of clusters"),
        ({"clusters": {"1": {"name": 5}}}, "holds no names of clusters"),
        ({"clusters": {"1": {"name": "two\nlines"}}}, "a control character or more than"),
        ({"clusters": {"1": {"into": 2}, "2": {"into": 1}}}, "contradict themselves"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, reason):
    whole = {"format": "ccscale-names", "version": 1, "basis": BASIS, "clusters": {}}
    text = content if isinstance(content, str) else json.dumps(whole | content)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=reason):
        ClusterNames.load(tmp_path)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A run's folder that is written to."""
    return shutil.copytree(run, tmp_path_factory.mktemp("named") / "run")


def listed(folder, capsys):
    assert main(["name", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_verb_and_the_table_of_predictions(folder, shards, tmp_path, capsys, refused):
    assert set(listed(folder, capsys)["names"].values()) == {None}
    assert main(["name", str(folder), "0=red = cats", "1=x", "--join", "2=0", "--junk", "1", "--list"]) == 0
    out = capsys.readouterr().out
    assert "3 of 6 clusters named, joined or marked" in out
    assert "joined to 0" in out
    found = listed(folder, capsys)
    assert list(found["names"].values())[:4] == ["red = cats", "junk", "red = cats", None]
    assert found["by_hand"]["1"] == {"name": "x", "junk": True}

    assert (
        main(
            [
                "predict",
                str(folder),
                "--shards",
                str(shards),
                "--out",
                str(tmp_path / "a.parquet"),
                "--workers",
                "0",
            ]
        )
        == 0
    )
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert all(row["name"] == found["names"][str(row["cluster"])] for row in rows)
    network = str(tmp_path / "network")
    assert main(["export", str(folder), network]) == 0
    out = str(tmp_path / "b.parquet")
    assert main(["predict", network, "--shards", str(shards), "--out", out, "--workers", "0"]) == 0
    assert pq.read_table(out)["name"].to_pylist() == [row["name"] for row in rows]

    assert main(["name", str(folder), "1="]) == 0
    assert listed(folder, capsys)["names"]["1"] is None
    assert "there is no cluster 99" in refused("name", folder, "99=cats")
    assert "cannot be joined to 2" in refused("name", folder, "--join", "0=2")
    assert listed(folder, capsys)["by_hand"].keys() == {"0", "2"}


def test_names_of_another_network(folder, tmp_path, capsys, refused):
    names = ClusterNames.load(folder)
    replace(names, basis=BASIS).save(tmp_path)
    capsys.readouterr()
    assert "are for clusters of step 2, and the run has other clusters now" in refused(
        "name", folder, "--file", tmp_path / FILE
    )
    assert main(["name", str(folder), "--file", str(tmp_path / FILE), "--anyway", "1=y"]) == 0
    assert ClusterNames.load(folder) == names.named(1, "y")
    replace(names, basis=BASIS).save(folder)
    capsys.readouterr()
    assert set(listed(folder, capsys)["names"].values()) == {None}
    main(["name", str(folder)])
    assert "ignored the names in" in capsys.readouterr().err
