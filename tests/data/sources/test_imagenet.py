"""ImageNet's images and labels are the same from the archive, from its tars and from its folders."""

import gzip
import io
import pickle
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import unpack
from harness.listings import converted, encoded, listing, touch
from PIL import Image

from ccscale.cli.main import main
from ccscale.data.sources.imagenet import SUBSETS, imagenet
from ccscale.errors import InputError

WNIDS = ("n02056570", "n02085936", "n02128757")


def cmyk() -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(9).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    Image.fromarray(pixels, "CMYK").save(data, "JPEG")
    return data.getvalue()


# Not in sorted order, and as the real ones with a PNG and a CMYK under the name JPEG.
IMAGES = {
    "n02128757": {"n02128757_7.JPEG": encoded(1), "n02128757_10.JPEG": encoded(2)},
    "n02056570": {"n02056570_1.JPEG": encoded(3, "PNG"), "n02056570_2.JPEG": cmyk()},
    "n02085936": {"n02085936_5.JPEG": encoded(4)},
}


def class_tar(images: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, image in images.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(image), 1_300_000_000, "olga"
            tar.addfile(info, io.BytesIO(image))
    return data.getvalue()


def archive(path: Path, tars: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(class_tar({f"{wnid}.tar": data for wnid, data in tars.items()}))
    return path


def full(path: Path) -> Path:
    return archive(path, {wnid: class_tar(images) for wnid, images in IMAGES.items()})


def folders(root: Path) -> Path:
    for wnid, images in IMAGES.items():
        (root / wnid).mkdir(parents=True)
        for name, data in images.items():
            (root / wnid / name).write_bytes(data)
    return root


def check_round_trip(source, out: Path, prefix: str = "") -> None:
    manifest, found = converted(source, out)
    assert manifest.class_ids == WNIDS
    assert manifest.labelled == {"train": 5}
    expected = {
        f"{prefix}{wnid}/{name[:-5]}": (WNIDS.index(wnid), f"{prefix}{wnid}/{name}", data)
        for wnid, images in IMAGES.items()
        for name, data in images.items()
    }
    assert {key: (stored.label, stored.origin, stored.data) for key, stored in found.items()} == expected
    kinds = {key.rpartition("/")[2]: stored.extension for key, stored in found.items()}
    assert kinds["n02056570_1"] == "png"
    assert kinds["n02056570_2"] == kinds["n02085936_5"] == "jpg"


def test_the_training_archive(tmp_path):
    path = full(tmp_path / "in/ILSVRC2012_img_train.tar")
    before = path.read_bytes()
    (tmp_path / "in/LOC_synset_mapping.txt").write_text("n02085936 Maltese dog, Maltese\nn02128757 irbis\n")
    source = imagenet(path)
    assert (source.name, source.kind) == ("imagenet", "imagenet")
    assert source.classes == ("n02056570", "Maltese dog", "irbis")
    assert listing(source) == {
        "train": [
            ("n02056570/n02056570_1", 0),
            ("n02056570/n02056570_2", 0),
            ("n02085936/n02085936_5", 1),
            ("n02128757/n02128757_10", 2),
            ("n02128757/n02128757_7", 2),
        ]
    }
    check_round_trip(source, tmp_path / "out")
    assert path.read_bytes() == before
    assert len(list((tmp_path / "in").iterdir())) == 2


def test_the_classes_tars(tmp_path):
    with tarfile.open(full(tmp_path / "train.tar")) as tar:
        unpack(tar, tmp_path / "in")
    touch(tmp_path / "in", "devkit.tar", "n0208593.tar", "notes/1.JPEG")
    check_round_trip(imagenet(tmp_path / "in"), tmp_path / "out")


def test_folders_of_classes(tmp_path):
    root = folders(tmp_path / "in")
    touch(root, "other/1.JPEG", "n02085936/n02085936_5.xml")
    (root / "words.txt").write_text("n02128757\tsnow leopard, ounce, Panthera uncia\n")
    source = imagenet(root)
    assert source.classes == ("n02056570", "n02085936", "snow leopard")
    check_round_trip(source, tmp_path / "out")


def test_the_listing_is_the_same_from_tars_and_folders(tmp_path):
    assert listing(imagenet(full(tmp_path / "a.tar"))) == listing(imagenet(folders(tmp_path / "b")))


def test_train_and_val(tmp_path, capsys):
    folders(tmp_path / "in/train")
    check_round_trip(imagenet(tmp_path / "in"), tmp_path / "out", "train/")
    touch(tmp_path / "in/val", "ILSVRC2012_val_00000001.JPEG")
    assert list(imagenet(tmp_path / "in").splits) == ["train"]
    assert "in/val is left out: its images do not lie in folders of classes" in capsys.readouterr().err
    touch(tmp_path / "in/val", "n02128757/ILSVRC2012_val_00000002.JPEG", "n09999999/x.JPEG")
    source = imagenet(tmp_path / "in")
    assert listing(source)["val"] == [("val/n02128757/ILSVRC2012_val_00000002", 2)]
    only = imagenet(tmp_path / "in", classes="n02128757")
    assert listing(only)["val"] == [("val/n02128757/ILSVRC2012_val_00000002", 0)]
    assert [label for _, label in listing(only)["train"]] == [0, 0]


def test_known_subsets(tmp_path, capsys):
    assert {name: (len(ids.split()), count) for name, (ids, count) in SUBSETS.items()} == {
        "imagenet-10": (10, 13_000),
        "imagenet-dogs": (15, 19_500),
    }
    for name, (ids, count) in SUBSETS.items():
        wnids = ids.split()
        assert wnids == sorted(wnids)
        tars = {wnid: class_tar({f"{wnid}_1.JPEG": b"x"}) for wnid in [*wnids, "n01440764"]}
        source = imagenet(archive(tmp_path / "train.tar", tars), classes=name)
        assert (source.name, source.class_ids) == (name, tuple(wnids))
        assert [label for _, label in listing(source)["train"]] == list(range(len(wnids)))
        assert (
            f"train.tar holds {len(wnids)} images of {name}, which has {count:,}" in capsys.readouterr().err
        )
        del tars[wnids[3]], tars[wnids[7]]
        with pytest.raises(
            InputError, match=rf"lacks 2 of the classes .*\({wnids[3]}, {wnids[7]}\): get them"
        ):
            imagenet(archive(tmp_path / "train.tar", tars), classes=name)


def test_a_whole_subset_is_not_remarked_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SUBSETS, "imagenet-10", ("n02128757", 2))
    imagenet(folders(tmp_path / "in"), classes="imagenet-10")
    assert capsys.readouterr().err == ""


def test_classes_by_list_and_file(tmp_path):
    path = full(tmp_path / "train.tar")
    wanted = {
        "train": [("n02085936/n02085936_5", 0), ("n02128757/n02128757_10", 1), ("n02128757/n02128757_7", 1)]
    }
    assert listing(imagenet(path, classes="n02128757, n02085936")) == wanted
    (tmp_path / "list.txt").write_text("n02128757\nn02085936\n")
    source = imagenet(path, classes=str(tmp_path / "list.txt"))
    assert (listing(source), source.class_ids, source.name) == (
        wanted,
        ("n02085936", "n02128757"),
        "imagenet",
    )


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("imagenet-dog", r"'imagenet-dog' is no WordNet id .*; did you mean 'imagenet-dogs'"),
        (
            "n123",
            r"--classes: 'n123' is no WordNet id \(an n and eight digits\); imagenet-10 and imagenet-dogs",
        ),
        ("n02128757,n00000001", r"lacks 1 of the classes that --classes asks for \(n00000001\)"),
    ],
)
def test_classes_that_are_refused(tmp_path, classes, message):
    with pytest.raises(InputError, match=message):
        imagenet(full(tmp_path / "train.tar"), classes=classes)


def test_names_that_lead_elsewhere_stay_in_their_class(tmp_path):
    tar = class_tar({"../../n02056570_1.v2.JPEG": b"x", "./._n02056570_1.JPEG": b"mac", "readme.md": b"x"})
    source = imagenet(archive(tmp_path / "train.tar", {"n02056570": tar}))
    assert listing(source) == {"train": [("n02056570/n02056570_1_v2", 0)]}


def damaged_tars(tmp_path) -> list[tuple[Path, str]]:
    """Return sources and what is to be said of them."""
    tar = class_tar(IMAGES["n02128757"])
    twisted = bytearray(tar)
    twisted[2] ^= 1
    cases = {
        "cut": (
            tar[:900],
            r"n02128757\.tar in .*cut\.tar: the tar .* truncated at byte 1024: .*: download it again",
        ),
        "twisted": (
            bytes(twisted),
            r"n02128757\.tar in .*twisted\.tar: .* damaged or .* byte 0: .*: download it again",
        ),
        "gz": (gzip.compress(tar), r"n02128757\.tar: it is compressed, .* run gunzip on it"),
        "none": (class_tar({"readme": b""}), r"holds no images of the class n02128757: download it again"),
    }
    made = [
        (
            archive(
                tmp_path / f"{name}.tar", {"n02056570": class_tar(IMAGES["n02056570"]), "n02128757": data}
            ),
            told,
        )
        for name, (data, told) in cases.items()
    ]
    whole = full(tmp_path / "whole.tar").read_bytes()
    info = tarfile.TarInfo("n02128757_1.JPEG")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    sparse = info.tobuf(tarfile.GNU_FORMAT) + bytes(512 + 1024)
    archive(tmp_path / "sparse.tar", {"n02128757": sparse})
    (tmp_path / "half.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.tar.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "val.tar").write_bytes(class_tar({"ILSVRC2012_val_00000001.JPEG": b"x"}))
    (tmp_path / "text.tar").write_text("no tar " * 200)
    folders(tmp_path / "both")
    shutil.copy(tmp_path / "cut.tar", tmp_path / "both/n02128757.tar")
    return [
        *made,
        (
            tmp_path / "sparse.tar",
            r"n02128757\.tar in .*: the member 'n02128757_1\.JPEG' is sparse: download it again",
        ),
        (
            tmp_path / "half.tar",
            r"half\.tar in .*: the tar is damaged or truncated at byte \d+: .*: download it again",
        ),
        (tmp_path / "whole.tar.gz", r"whole\.tar\.gz: it is compressed, .*by a seek: run gunzip on it"),
        (
            tmp_path / "val.tar",
            r"holds no tars of classes \(n########\.tar\): name ILSVRC2012_img_train\.tar",
        ),
        (tmp_path / "text.tar", r"text\.tar in .*: the tar is damaged or truncated at byte 0"),
        (tmp_path / "both", r"n02128757\.tar lies beside a folder of the same class: move one of them away"),
        (touch(tmp_path / "other", "cat/1.JPEG"), r"other holds no classes .*name the training archive"),
    ]


def test_bad_sources_are_refused_in_a_sentence(tmp_path):
    for source, message in damaged_tars(tmp_path):
        with pytest.raises(InputError, match=message):
            imagenet(source)


def test_the_command_refuses_a_damaged_archive(tmp_path, refused):
    archive(tmp_path / "train.tar", {"n02056570": class_tar(IMAGES["n02056570"])[:700]})
    said = refused("shards", "make", "imagenet", tmp_path / "train.tar", tmp_path / "out")
    assert "n02056570.tar in " in said


def test_the_shards_may_not_lie_beside_the_archive(tmp_path, capsys):
    full(tmp_path / "train.tar")
    assert main(["shards", "make", "imagenet", str(tmp_path / "train.tar"), str(tmp_path)]) == 2
    assert "contains the images themselves" in capsys.readouterr().err


def test_listing_is_small(tmp_path):
    images = {f"n02056570_{number}.JPEG": b"" for number in range(5000)}
    path = archive(tmp_path / "train.tar", {"n02056570": class_tar(images)})
    del images
    tracemalloc.start()
    source = imagenet(path)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    items = source.splits["train"]
    assert len(items) == 5000
    assert held / 5000 < 500  # bytes an image
    assert len(pickle.dumps(items)) / 5000 < 150
