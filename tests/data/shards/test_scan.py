"""Everything in a tar is read, or counted by kind; what has two readings is refused with the remedy."""

import io
import json
import tarfile
from collections import Counter

import pytest

from ccscale.data.shards.errors import ShardError
from ccscale.data.shards.index import scan_tar
from ccscale.data.shards.labels import Labelling, Labels
from ccscale.data.shards.scan import Scan, scan


def tar_of(*members: tuple[str, bytes | tuple[bytes, str]], **options) -> bytes:
    """Return a tar; a member's data may be the type and the target of a link."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, tuple):
                info.type, info.linkname = data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def found(*members, label_field: str | None = None, **options) -> tuple[list[tuple[str, bytes]], Scan]:
    """Return the samples as (key, bytes), and the scan."""
    data = tar_of(*members, **options)
    result = scan(io.BytesIO(data), "x.tar", label_field)
    return [(s.key, data[s.offset : s.offset + s.size]) for s in result.samples], result


def test_a_hard_link_is_the_member_that_it_names():
    samples, result = found(
        ("d/a.jpg", b"first"),
        ("d/a.cls", b"3"),
        ("b.jpg", (tarfile.LNKTYPE, "d/a.jpg")),
        ("b.cls", (tarfile.LNKTYPE, "d/a.cls")),
        ("c.jpg", b"third"),
        ("e.jpg", (tarfile.LNKTYPE, "b.jpg")),
    )
    assert samples == [("d/a", b"first"), ("b", b"first"), ("c", b"third")]
    assert [sample.text for sample in result.samples] == ["3", "3", ""]
    assert result.passed.kinds == Counter(
        {"dangling hard links": 1}
    )  # links to links are not written by any tar
    assert result.passed.first == "e.jpg"


def test_what_is_in_no_sample_is_counted_by_kind():
    samples, result = found(
        ("README.md", b"hi"),
        ("a.jpg", b"one"),
        ("a.txt", b"belongs to a"),
        ("a.png", b"a second image"),
        ("Thumbs.db", b"x"),
        ("._a.jpg", b"of macOS"),
        ("__MACOSX/._b.jpg", b"of macOS"),
        ("LICENSE", b"x"),
        ("d/b.gif", b"two"),
        ("l.jpg", (tarfile.SYMTYPE, "a.jpg")),
        ("p.jpg", (tarfile.FIFOTYPE, "")),
        ("h.jpg", (tarfile.LNKTYPE, "/etc/passwd")),
        ("photo.jp2", b"x"),
        ("notes.txt", b"x"),
        ("more.txt", b"x"),
        ("x.\u20ac", b"x"),
        ("folder.d", (tarfile.DIRTYPE, "")),
    )
    assert samples == [("a", b"one"), ("d/b", b"two")]
    assert [sample.ext for sample in result.samples] == ["jpg", "gif"]
    assert result.passed.first == "README.md"
    assert result.passed.kinds == {
        ".md": 1,
        ".db": 1,
        ".jp2": 1,
        ".txt": 2,
        ".png beside .jpg": 1,
        "hidden": 2,
        "without an ending": 1,
        "symbolic links": 1,
        "special": 1,
        "dangling hard links": 1,
        "of other kinds": 1,
    }


def test_kinds_without_end_are_not_counted_one_by_one():
    _, result = found(("a.jpg", b""), *((f"{i}.e{i}", b"") for i in range(500)))
    assert len(result.passed.kinds) <= 50
    assert result.passed.kinds.total() == 500


@pytest.mark.parametrize(
    "ending",
    [
        "jpg",
        "JPEG",
        "jpe",
        "jfif",
        "png",
        "webp",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "ppm",
        "pgm",
        "avif",
        "heic",
        "jxl",
    ],
)
def test_images_of_every_kind_that_is_decoded(ending):
    assert found((f"a.{ending}", b"x"))[0] == [("a", b"x")]


def test_names_that_are_not_utf_8():
    samples, result = found(
        ("caf\xe9.jpg", b"1"), ("b.jpg", b"2"), encoding="latin-1", format=tarfile.USTAR_FORMAT
    )
    assert samples == [("caf%xE9", b"1"), ("b", b"2")]
    assert not result.passed.kinds
    assert found(("caf%xE9.jpg", b"1"))[0] == [("caf%xE9", b"1")]  # as `shards make` has written it


@pytest.mark.parametrize(
    ("members", "what"),
    [
        (
            [("shoe v2.0.jpg", b""), ("shoe v2.1.jpg", b"")],
            r"the sample 'shoe v2' has no image but 0\.jpg, 1\.jpg: as in WebDataset, a sample's name "
            r"ends at its first dot; rewrite the tar without the dot in 'shoe v2\.0\.jpg'",
        ),
        (
            [("s.left.jpg", b""), ("s.cls", b"0")],
            "the sample 's' has no image but left.jpg, cls: .* first dot",
        ),
        (
            [("a.jpg", b""), ("b.jpg", b""), ("a.cls", b"0"), ("b.cls", b"1")],
            "the members of the sample 'a' are not next to each other: .*`tar --sort=name`",
        ),
        (
            [("a.cls", b"0"), ("b.cls", b"1"), ("a.jpg", b""), ("b.jpg", b"")],
            "the members of the sample 'a' are not next to each other: .*`tar --sort=name`",
        ),
        ([("a.jpg", b""), ("b.jpg", b""), ("a.jpg", b"")], "two samples have the key 'a'"),
        ([("a.jpg", b""), ("a.cls", b"\xff")], "of the sample 'a', the label .* is no text in UTF-8"),
        ([("a.jpg", b""), ("a.cls", b"x" * 2000)], "of the sample 'a', the label 'xx.* more than 1,000"),
    ],
)
def test_what_has_two_readings_is_refused(members, what):
    with pytest.raises(ShardError, match=f"^x.tar: {what}"):
        found(*members)


def test_a_folder_with_a_dot_is_no_sample_with_one():
    assert found(("a.b/1.jpg", b"1"), ("a.b/2.jpg", b"2"))[0] == [("a.b/1", b"1"), ("a.b/2", b"2")]


def test_labels_in_a_field_of_the_json():
    facts = [{"label": 3, "url": "u"}, {"label": "cat"}, {"label": None}, {}, {"label": True}]
    members = [
        (f"{i}.{ending}", data)
        for i, fact in enumerate(facts)
        for ending, data in (("jpg", b""), ("json", json.dumps(fact).encode()), ("cls", b"7"))
    ]
    _, result = found(*members, ("bare.jpg", b""), label_field="label")
    assert [sample.text for sample in result.samples] == ["3", "cat", "", "", "True", ""]
    assert result.samples[0].origin == "u"


@pytest.mark.parametrize(
    ("data", "field", "what"),
    [
        (b'{"label": 1}', "labels", "no sample's json has the field 'labels'; did you mean 'label'"),
        (b'{"label": [1]}', "label", r"of the sample 'a', the label '\[1\]' is neither a text nor a number"),
        (b"[1]", "label", "of the sample 'a', .* its json is no object of up to 65,536 bytes"),
        (b"{", "label", "of the sample 'a', .* its json is no object"),
        (b'{"label": "' + b"x" * 70_000 + b'"}', "label", "its json is no object of up to 65,536 bytes"),
    ],
)
def test_labels_that_the_json_does_not_have(data, field, what):
    with pytest.raises(ShardError, match=what):
        found(("a.jpg", b""), ("a.json", data), label_field=field)


def test_labels_that_are_names():
    data = tar_of(("a.jpg", b""), ("a.cls", b"cat\n"), ("b.jpg", b""), ("c.jpg", b""), ("c.cls", b"NA"))
    named = Labelling(Labels(("dog", "cat"), True))
    assert scan_tar(io.BytesIO(data), "x.tar", named).labels.tolist() == [1, -1, -1]
    with pytest.raises(ShardError, match="of the sample 'a', the label 'cat' is not one of the data set's"):
        scan_tar(io.BytesIO(data), "x.tar", Labelling(Labels(("dog",), True)))
