"""Where a report's images came from: by the table, or by the index of the shards."""

from dataclasses import replace

import pyarrow as pa
from harness.report_examples import example

from ccscale.data.reader import SampleReader
from ccscale.data.shards.manifest import Manifest
from ccscale.report.origins import with_origins


def test_origins_are_those_of_the_table_or_of_the_shards(shards, tmp_path):
    reader = SampleReader(Manifest.load(shards), ("train",))
    table = replace(example().table, keys=pa.array([reader.key(i) for i in range(len(reader))]), origins=None)
    found = with_origins(table, reader).origins.to_pylist()
    assert found[0] == f"class0/{found[0][-8:]}"
    assert len(set(found)) == len(reader)
    whole = with_origins(table, reader, tmp_path).origins.to_pylist()
    assert whole == [f"{tmp_path}/{origin}" for origin in found]
    known = replace(table, origins=pa.array(["a.jpg", None, *found[2:]]))
    assert with_origins(known, reader).origins[0].as_py() == "a.jpg"
    assert with_origins(known, None, tmp_path).origins.to_pylist()[:2] == [f"{tmp_path}/a.jpg", None]
    assert with_origins(table, None).origins is None
