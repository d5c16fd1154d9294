"""Names of living clusters: by ids, begun with those of the network, the same at every version."""

import json

import pytest
from harness.lineages import commit

from ccscale.cli.main import main
from ccscale.clusters.lineage import open_lineage
from ccscale.clusters.naming import carry_names
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import FILE, ClusterNames

OF_NETWORK = {"step": 1, "weights": "0" * 64, "head": 0}  # as of the harness's versions


@pytest.fixture
def run(tmp_path):
    commit(tmp_path / "run", "init", [[0, 1, 2, 3]])
    commit(tmp_path / "run", "accept", next_id=6)
    return tmp_path / "run"


def test_ids_are_named_and_a_page_of_the_network_is_taken(run, tmp_path, capsys, refused):
    assert main(["name", str(run), "1=cats", "--junk", "5"]) == 0
    assert open_lineage(run).names() == {1: "cats", 5: "junk"}
    assert ClusterNames.load(run) == ClusterNames(OF_NETWORK).named(1, "cats")  # which has four clusters
    capsys.readouterr()
    assert main(["name", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["of"] == "ids"
    assert told["names"] == {"0": None, "1": "cats", "2": None, "3": None}  # those there are now
    assert "there is no cluster 6" in refused("name", run, "6=x")
    open_lineage(run).name({1: "cats", 3: "eels"})
    assert open_lineage(run).names() == {1: "cats", 3: "eels", 5: "junk"}
    with pytest.raises(InputError, match="there is no cluster 6"):
        open_lineage(run).name({6: "x"})

    page = ClusterNames(OF_NETWORK).named(2, "dogs").joined(3, 2)
    page.save(tmp_path)
    assert main(["name", str(run), "--file", str(tmp_path / FILE)]) == 0
    assert open_lineage(run).names() == {2: "dogs", 3: "dogs"}
    assert ClusterNames.load(run) == page
    capsys.readouterr()
    ClusterNames(OF_NETWORK | {"head": 1}).named(2, "dogs").save(tmp_path)
    assert "are for clusters of step 1" in refused("name", run, "--file", tmp_path / FILE)
    other = ClusterNames(OF_NETWORK | {"weights": "1" * 64}).named(0, "of a later network")
    other.save(run)
    assert main(["name", str(run), "0=eels"]) == 0
    assert ClusterNames.load(run) == other


def test_a_lineage_begins_with_the_names_of_the_network(run):
    basis = open_lineage(run).current.basis
    carry_names(run / "clusters", basis, 4)
    assert open_lineage(run).names() == {}
    ClusterNames(OF_NETWORK).named(0, "eels").save(run)
    carry_names(run / "clusters", basis, 4)
    assert open_lineage(run).names() == {0: "eels"}
