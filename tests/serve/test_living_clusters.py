"""Of a run whose clusters live the current version answers, as updates assign."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_images

from ccscale.cli.main import main
from ccscale.clusters.assigning import assign_images
from ccscale.clusters.init import found_clusters
from ccscale.clusters.lineage import clusters_of, open_lineage
from ccscale.data.conversion.shards import make_shards
from ccscale.data.images.whole import whole_image
from ccscale.data.reader import SampleReader
from ccscale.data.sources.kinds import open_source
from ccscale.errors import InputError
from ccscale.evaluate.cluster_names import LIVING, ClusterNames
from ccscale.evaluate.reject import Reject
from ccscale.evaluate.reliability import assign_features
from ccscale.features.store import Features
from ccscale.model.export import load
from ccscale.serve.source import ClusterSource


def test_answers_are_those_of_an_update(run, manifest, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    source = ClusterSource(copy, "cpu")
    before = source.state()
    assert found_clusters(copy, device="cpu", workers=0) is not None
    founded = source.state()
    assert founded != before

    served = source.open()
    assert (served.version, served.clusters, served.size) == ("v000001", 6, 16)
    reader = SampleReader(manifest, ["train"])
    images = np.stack([whole_image(reader[i].data, 16, served.scaled_decode) for i in range(len(reader))])
    answers = served.answer(images)

    lineage = open_lineage(copy)
    (data,) = (clusters_of(copy) / "features").iterdir()
    features = Features(data, ("train",))
    rows = features.take(np.arange(len(reader)))
    network = load(lineage.network())
    expected = assign_images(lineage.state(), rows, *assign_features(network, rows))
    assert [(one.id, one.reason) for one in answers] == list(
        zip(expected.ids.tolist(), expected.reasons, strict=True)
    )
    assert np.allclose([one.confidence for one in answers], expected.confidence, atol=1e-5)

    taken_in = make_images(tmp_path / "new", 20)
    make_shards(open_source("folder", str(taken_in)), tmp_path / "day", workers=1, progress=False)
    assert main(["update", str(copy), "--shards", str(tmp_path / "day"), "--workers", "0"]) == 0
    updated = source.state()
    assert updated != founded
    ClusterNames(LIVING, names=dict.fromkeys(range(6), "cats")).save(clusters_of(copy))
    assert source.state() != updated
    newer = source.open()
    told = newer.answer(images)
    assert newer.version == "v000002"
    assert [one.id for one in told] == [one.id for one in answers]  # no image has moved
    assert {one.name for one in told if one.id >= 0} == {"cats"}
    assert served.answer(images) == answers  # what was opened stays as it is

    assert main(["lineage", "rollback", str(copy), "1"]) == 0
    assert source.open().version == "v000001"
    with pytest.raises(InputError, match="live, and leave images without one by themselves"):
        ClusterSource(copy, "cpu", reject=Reject(coverage=0.9)).open()
    (clusters_of(copy) / "current").write_text("7\n")
    with pytest.raises(InputError, match="names no existing version"):
        source.open()
