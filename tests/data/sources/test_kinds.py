"""Every kind of source is opened by its name, with the options that it takes and no others."""

import inspect

import pytest

from ccscale.data.sources.kinds import KINDS, Kind, open_source
from ccscale.errors import InputError


def test_open_source_refuses(tmp_path):
    with pytest.raises(InputError, match="'foldr' is not a kind of source; did you mean 'folder'"):
        open_source("foldr", tmp_path)
    with pytest.raises(InputError, match=f"'x' is not a kind of source; the kinds are {', '.join(KINDS)}"):
        open_source("x", tmp_path)
    with pytest.raises(InputError, match="tiny-imagenet has no option 'split'"):
        open_source("tiny-imagenet", tmp_path, split="train")
    with pytest.raises(InputError, match="folder needs a SOURCE: give the folder or file"):
        open_source("folder")
    with pytest.raises(InputError, match="digits reads no SOURCE"):
        open_source("digits", tmp_path)
    assert len(open_source("digits").splits["train"]) == 1797


def test_the_kinds():
    assert list(KINDS) == [
        "folder",
        "tiny-imagenet",
        "imagenet",
        "cifar10",
        "cifar100",
        "stl10",
        "idx",
        "table",
        "digits",
    ]
    for kind in KINDS.values():
        assert set(inspect.signature(kind.open).parameters) == kind.options | (
            {"path"} if kind.needs_path else set()
        )


@pytest.mark.parametrize("kind", [kind for kind, entry in KINDS.items() if entry.needs_path])
def test_what_is_not_there_is_refused_in_a_sentence(tmp_path, kind):
    for missing in (tmp_path / "nowhere", tmp_path / "nowhere.csv"):
        with pytest.raises(InputError, match=r"nowhere.*[;:] .+"):
            open_source(kind, missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.*[;:] .+"):
        open_source(kind, tmp_path / "empty")


def test_a_folder_without_rights_is_refused(tmp_path, monkeypatch):
    def without_rights(path):
        raise PermissionError(13, "Permission denied", f"{path}/cat")  # root may read everything

    monkeypatch.setitem(KINDS, "folder", Kind(without_rights, ""))
    with pytest.raises(InputError, match=r"/cat cannot be read \(Permission denied\): check"):
        open_source("folder", tmp_path)
