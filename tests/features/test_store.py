"""A feature store is read as it was written: rows, views, splits, types; what is not whole is refused."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from harness.stores import make_store

import ccscale
from ccscale.errors import InputError
from ccscale.features.listing import ROWS

RNG = np.random.default_rng(0)
N, D = 2 * ROWS + 100, 6


@pytest.fixture(scope="module")
def views():
    return [RNG.standard_normal((N, D)).astype(np.float32) for _ in range(3)]


@pytest.fixture(scope="module")
def labels():
    return RNG.integers(-1, 5, N)


@pytest.fixture
def store(tmp_path, views, labels):
    return make_store(tmp_path / "store", views, labels, shards=[ROWS + 50, 0, N - ROWS - 50], bad=[7])


def test_sizes(store, labels):
    assert (store.rows, store.width, store.views, store.splits) == (N, D, 2, ("train",))
    assert np.array_equal(store.labels, labels)
    assert np.flatnonzero(store.bad).tolist() == [7]
    assert store.keys[ROWS + 60].as_py() == f"key-{ROWS + 60:08d}"
    assert [shard.nsamples for shard in store.shards] == [ROWS + 50, 0, N - ROWS - 50]
    assert store.manifest_digest == store.manifest.digest(["train"]) == store.listing.data.digest
    assert store.manifest.labelled == {"train": int((labels >= 0).sum())}


def test_rows_in_any_order(store, views):
    rows = RNG.permutation(N)
    of_view = RNG.integers(0, 3, N)
    assert np.array_equal(store.take(rows, of_view), np.stack(views)[of_view, rows])
    assert np.array_equal(store.take(rows[:5], 2), views[2][rows[:5]])
    assert store.take(np.array([], dtype=np.int64)).shape == (0, D)
    with pytest.raises(IndexError):
        store.take(np.array([N]))


def test_blocks_and_arrays(store, views):
    blocks = list(store.blocks(1, size=1000))
    assert [first for first, _ in blocks] == list(range(0, N, 1000))
    assert np.array_equal(np.concatenate([block for _, block in blocks]), views[1])
    assert np.array_equal(np.concatenate(list(store.arrays(2))), views[2])
    assert np.array_equal(store.array(0), views[0])
    assert np.array_equal(store.array(0, 1000, 1200), views[0][1000:1200])


def test_arrays_are_not_copied(store):
    assert all(not array.flags.writeable and array.base is not None for array in store.arrays(0))


def test_a_worker_has_it_too(store, views):
    store.take(np.arange(3))
    assert np.array_equal(pickle.loads(pickle.dumps(store)).take(np.arange(3)), views[0][:3])


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8), ("float32", 24)])
def test_types(tmp_path, views, dtype, digits):
    store = make_store(tmp_path, views[0], dtype=dtype)
    found = store.take(np.arange(N))
    assert found.dtype == np.float32
    assert np.allclose(found, views[0], rtol=2.0**-digits, atol=2.0**-24)


def test_others_read_it(tmp_path, views):
    make_store(tmp_path, views[:1], shards=1, dtype="float16")
    table = pa.ipc.open_file(pa.memory_map(str(tmp_path / "train-000000.arrow"))).read_all()
    assert table.column_names == ["key", "label", "bad", "view_0"]
    assert np.array_equal(np.array(table["view_0"][5].as_py(), np.float16), views[0][5].astype(np.float16))


def test_bytes_are_the_features_alone(tmp_path, views):
    first, second = (make_store(tmp_path / name, views) for name in "ab")
    for file in first.files:
        assert (first.folder / file.name).read_bytes() == (second.folder / file.name).read_bytes()
    assert (first.folder / "features.json").read_bytes() == (second.folder / "features.json").read_bytes()


class TestRefused:
    def test_no_store(self, tmp_path):
        with pytest.raises(InputError) as caught:
            ccscale.open_features(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path} is not a feature store: it has no features.json; make one with `ccscale embed "
            f"SHARDS {tmp_path}`"
        )

    def test_unknown_split(self, store):
        with pytest.raises(InputError) as caught:
            ccscale.open_features(store.folder, ["trein"])
        assert str(caught.value) == f"{store.folder} has no split 'trein'; did you mean 'train'?"

    def test_half_written(self, store):
        store.listing.changed(complete=False).save(store.folder)
        with pytest.raises(InputError, match=r"is incomplete: run `ccscale embed shards .*` again with the"):
            ccscale.open_features(store.folder)

    def test_a_file_cut_off(self, store):
        path = store.folder / store.files[0].name
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InputError) as caught:
            ccscale.open_features(store.folder)
        size = store.files[0].bytes
        assert str(caught.value) == (
            f"{path} does not match the store's listing: it has {size - 1} bytes, not {size}; run "
            f"`ccscale embed verify {store.folder}`"
        )

    def test_a_file_that_is_another(self, store):
        path = store.folder / store.files[0].name
        path.write_bytes(bytes(store.files[0].bytes))
        with pytest.raises(InputError, match="cannot be read: it is damaged; run `ccscale embed verify"):
            ccscale.open_features(store.folder).take(np.arange(3))

    @pytest.mark.parametrize("text", ["[]", "{}", '{"format": "other"}', "x", "\udc80"])
    def test_another_listing(self, store, text):
        (store.folder / "features.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(
            InputError, match="is not the listing of a feature store; delete the store, and make"
        ):
            ccscale.open_features(store.folder)

    def test_a_later_version(self, store):
        self.change(store, version=2)
        with pytest.raises(
            InputError, match="has version 2 and this ccscale reads version 1: upgrade ccscale"
        ):
            ccscale.open_features(store.folder)

    def test_a_file_elsewhere(self, store):
        files = json.loads((store.folder / "features.json").read_text())["files"]
        files[0]["name"] = "../other.arrow"
        self.change(store, files=files)
        with pytest.raises(InputError, match=r"'files\.0\.name' is wrong"):
            ccscale.open_features(store.folder)

    @staticmethod
    def change(store, **values):
        path = store.folder / "features.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
