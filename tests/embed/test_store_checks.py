"""A store is told of, drawn and checked: ``embed info`` and ``embed verify``; and what the command line refuses."""

import json

import numpy as np
import pytest
from harness.pictures import contents
from harness.stores import make_store
from PIL import Image

from ccscale.cli.main import main
from ccscale.data.shards.index import read_index
from ccscale.data.shards.manifest import Manifest
from ccscale.embed.sheet import nearest_rows
from ccscale.features.listing import read_listing

RNG = np.random.default_rng(0)


def keys_of(manifest: Manifest) -> list[str]:
    return [key for shard in manifest.shards for key in read_index(manifest, shard).keys]


@pytest.fixture
def store(manifest, tmp_path):
    """A store of `shards` with known numbers."""
    keys = keys_of(manifest)
    return make_store(
        tmp_path / "store", RNG.standard_normal((150, 5)), manifest=manifest, bad=[3], keys=keys
    )


def call(capsys, *arguments: object) -> tuple[int, dict]:
    code = main(["embed", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_info(store, capsys):
    code, facts = call(capsys, "info", store.folder)
    lengths = np.linalg.norm(np.delete(store.take(np.arange(150)), 3, axis=0), axis=1)
    assert code == 0
    assert (facts["rows"], facts["width"], facts["bad"]) == (150, 5, 1)
    assert facts["norms"] == pytest.approx(
        {"least": lengths.min(), "mean": lengths.mean(), "greatest": lengths.max()}, rel=1e-5
    )
    assert facts["splits"]["train"]["shards"] == 5
    assert facts["neighbours"] is None
    assert main(["embed", "info", str(store.folder)]) == 0
    assert capsys.readouterr().out.startswith(f"{store.folder}: 150 rows of 5 numbers (float32, ")


def test_sheet(store, tmp_path, capsys):
    code, facts = call(capsys, "info", store.folder, "--sheet", tmp_path / "sheet.png")
    assert (code, facts["sheet"]) == (0, str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 16 * 50


def test_nearest_rows(store):
    rows = store.take(np.arange(150)).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    cosines[:, 3] = -2
    queries = np.array([0, 50, 149])
    nearest, found = nearest_rows(store, queries, 4)
    assert np.array_equal(nearest, np.argsort(-cosines[queries], axis=1)[:, :4])
    assert np.allclose(found, -np.sort(-cosines[queries], axis=1)[:, :4], atol=1e-5)


class TestVerify:
    def test_all_is_well(self, store, capsys):
        before = contents(store.folder)
        assert call(capsys, "verify", store.folder) == (
            0,
            {"store": str(store.folder), "ok": True, "problems": [], "shards_not_compared": None},
        )
        assert contents(store.folder) == before

    def problems(self, capsys, store, *arguments: object) -> list[tuple[str, str]]:
        code, found = call(capsys, "verify", store.folder, *arguments)
        assert code == bool(found["problems"])
        return [(problem["place"], problem["what"]) for problem in found["problems"]]

    def test_a_byte(self, store, capsys):
        path = store.folder / store.files[1].name
        data = bytearray(path.read_bytes())
        data[-2000] ^= 1
        path.write_bytes(data)
        assert self.problems(capsys, store) == [
            (path.name, "its SHA-256 is not the listed one: it was changed or damaged")
        ]

    def test_a_file_that_is_gone(self, store, capsys):
        (store.folder / store.files[2].name).unlink()
        assert self.problems(capsys, store) == [
            (store.files[2].name, "it cannot be read: No such file or directory")
        ]

    def test_not_finished(self, store, capsys):
        read_listing(store.folder).changed(complete=False).save(store.folder)
        assert self.problems(capsys, store) == [
            ("features.json", "it is not finished: the same `ccscale embed` continues")
        ]

    def test_rows_that_are_not_finite(self, manifest, tmp_path, capsys):
        rows = RNG.standard_normal((150, 5))
        rows[[33, 34], 2] = np.nan, np.inf
        keys = keys_of(manifest)
        store = make_store(tmp_path / "spoiled", rows, manifest=manifest, keys=keys)
        assert self.problems(capsys, store) == [
            (store.files[1].name, f"2 rows of view 0 are not finite: {keys[33]}, {keys[34]}")
        ]

    def test_keys_of_others(self, manifest, tmp_path, capsys):
        store = make_store(tmp_path / "other", RNG.standard_normal((150, 5)), manifest=manifest)
        assert self.problems(capsys, store)[0] == (
            store.files[0].name,
            f"its keys are not those of {manifest.shards[0].url}, in their order",
        )

    def test_shards_that_are_elsewhere(self, store, shards, tmp_path, capsys, monkeypatch):
        listing = read_listing(store.folder)
        data = listing.data.model_copy(update={"root": str(tmp_path / "gone")})
        listing.changed(data=data).save(store.folder)
        code, found = call(capsys, "verify", store.folder)
        assert (code, found["ok"]) == (0, True)
        assert found["shards_not_compared"].startswith(f"there is no folder {tmp_path / 'gone'}")
        assert self.problems(capsys, store, "--shards", shards) == []

    def test_shards_that_have_grown(self, shards, manifest, tmp_path, capsys):
        fewer = Manifest(str(shards), "x", manifest.shards[:2], (), (), {}, {})
        keys = keys_of(fewer)
        store = make_store(tmp_path / "store", RNG.standard_normal((60, 5)), manifest=fewer, keys=keys)
        assert self.problems(capsys, store) == [
            ("features.json", f"it has no features of 3 shards, the first is {manifest.shards[2].url}")
        ]


EMBED = "embed {shards} {tmp}/store"
RANDOM = f"{EMBED} --backbone test_resnet --weights random"

REFUSALS = [
    (EMBED, "choose a network for the features: --backbone NAME, --run RUN or --config FILE"),
    (
        f"{EMBED} --run {{run}} --weights random",
        "--run sets backbone and weights: leave out --backbone and --weights",
    ),
    (f"{EMBED} --backbone resnet1888", "timm has no model 'resnet1888' (model.backbone); did you mean"),
    (
        f"{EMBED} --backbone test_resnet --weights none.safetensors",
        "there is no file none.safetensors (model.weights)",
    ),
    (f"{RANDOM} --idle 3", "--idle goes with --follow"),
    (
        f"{EMBED} --config digits",
        "the backbone of digits has no weights: set model.pretrained=true or model.weights=FILE, or give --weights",
    ),
    ("embed {tmp}/none {tmp}/store --backbone test_resnet --weights random", "there is no folder {tmp}/none"),
    (
        f"{RANDOM} --split trein",
        "{shards} has no split 'trein'; did you mean",
    ),
    (
        "embed {shards} {tmp}/a/b --backbone test_resnet --weights random",
        "cannot create the folder {tmp}/a/b: ",
    ),
    ("embed info {shards}", "{shards} is not a feature store: it has no features.json; make one with"),
    ("embed verify {tmp}/none", "{tmp}/none is not a feature store: it has no features.json; make one with"),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSALS)
def test_refused(line, sentence, shards, run, tmp_path, capsys):
    places = {"shards": shards, "run": run, "tmp": tmp_path}
    code = main(line.format(**places).split())
    out, err = capsys.readouterr()
    said = [text for text in err.splitlines() if text != "loading PyTorch"]
    assert (code, out, len(said)) == (2, "", 1), err
    assert said[0].removeprefix("error: ").startswith(sentence.format(**places))
    assert list(tmp_path.iterdir()) == []


def test_the_command(shards, tmp_path, capsys):
    """From a config with overrides; neighbours too; again, nothing is new."""
    options = [
        "--config",
        "digits",
        "--weights",
        "random",
        "--views",
        "1",
        "--size",
        "16",
        "--neighbours",
        "5",
    ]
    line = [
        shards,
        tmp_path / "store",
        *options,
        "--workers",
        "0",
        "--device",
        "cpu",
        "model.backbone=test_resnet",
    ]
    code, result = call(capsys, *line)
    assert code == 0
    assert (result["rows"], result["new"], result["views"], result["dtype"]) == (150, 150, 1, "float16")
    assert result["neighbours"]["k"] == 5
    assert call(capsys, *line)[1] == result | {"new": 0}
    assert main(["embed", *map(str, line)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told == (
        f"{tmp_path / 'store'}: 150 rows of 96 numbers (float16), of each unchanged image and 1 random view; "
        "0 new; by random weights: of no use but to try things the 5 nearest neighbours of each row, found exactly"
    )
