"""Lists of classes are read as they are meant, or refused."""

import pytest

from ccscale.data.sources.classes import listed_classes, synset_names, text_lines
from ccscale.errors import InputError


def test_listed_with_commas_or_in_a_file(tmp_path):
    assert listed_classes("ankle boot, bag ,T-shirt/top") == ["ankle boot", "bag", "T-shirt/top"]
    (tmp_path / "names").write_bytes("﻿größe\r\n\r\n bag \n".encode())
    assert listed_classes(str(tmp_path / "names")) == ["größe", "bag"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lists/gone.txt", r"--classes: there is no file lists/gone\.txt; give a text file"),
        ("gone.txt", "there is no file"),
        ("", "has an empty name: separate names by commas"),
        ("a,,b", "has an empty name"),
        ("a,b,a", "--classes lists a twice: list each class once"),
    ],
)
def test_listed_refuses(text, message):
    with pytest.raises(InputError, match=message):
        listed_classes(text)


def test_listed_refuses_files(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="has an empty name"):
        listed_classes(str(tmp_path / "empty"))
    (tmp_path / "binary").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"binary is not UTF-8 text: convert it"):
        text_lines(str(tmp_path / "binary"))
    with pytest.raises(
        InputError, match=r"gone cannot be read \(No such file or directory\): check the path"
    ):
        text_lines(str(tmp_path / "gone"))


def test_synset_names(tmp_path):
    assert synset_names(str(tmp_path)) == {}
    (tmp_path / "words.txt").write_text("n00000001\tentity\nn00000002\tcrane, bird\nbare\n")
    assert synset_names(str(tmp_path)) == {"n00000001": "entity", "n00000002": "crane"}
    (tmp_path / "LOC_synset_mapping.txt").write_text("n00000001 great white shark, man-eater\n")
    assert synset_names(str(tmp_path)) == {"n00000001": "great white shark"}
