"""A file system that keeps no permissions is found out before there is anything to lose."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import small_settings, write_config

from ccscale.checkpoint.permissions import check_kept, restrict
from ccscale.errors import InputError


@pytest.fixture(params=["has no effect", "is refused"])
def no_permissions(request, monkeypatch) -> Iterator[None]:
    """As FAT and SMB are mounted by default: everybody can write everything, and chmod changes nothing."""

    def chmod(path: object, mode: int, **options: object) -> None:
        if request.param == "is refused":
            raise PermissionError(1, "Operation not permitted")

    before = os.umask(0)
    monkeypatch.setattr(os, "chmod", chmod)
    yield
    os.umask(before)


def test_a_run_there_is_refused_before_it_begins(
    no_permissions, shards: Path, tmp_path: Path, refused
) -> None:
    told = refused("train", write_config(tmp_path, small_settings(shards, tmp_path / "runs/first")))
    assert told.startswith(
        f"{tmp_path} is on a file system where permissions have no effect (files created there stay "
        "writable by others: mode 777)"
    )
    assert (
        "use a folder on another file system (run=DIR), or this one mounted so that only you can write"
        in told
    )


def test_one_where_all_files_are_somebody_elses(tmp_path: Path, monkeypatch) -> None:
    """As where NFS lets nobody be root: what root makes belongs to nobody."""
    own = os.stat

    def squashed(path: object, **options: object) -> os.stat_result:
        facts = list(own(path, **options))
        facts[stat.ST_UID] = 65534
        return os.stat_result(facts)

    monkeypatch.setattr(os, "stat", squashed)
    with pytest.raises(InputError, match="belongs to user 65534"):
        check_kept(tmp_path)


def test_one_that_keeps_them(tmp_path: Path) -> None:
    """Whatever the umask; and nothing is left there."""
    before = os.umask(0)
    try:
        check_kept(tmp_path / "runs" / "first")
        check_kept(tmp_path)
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_one_that_refuses_what_need_not_be_changed(no_permissions, tmp_path: Path) -> None:
    os.umask(0o022)
    check_kept(tmp_path)
    (tmp_path / "file").touch()
    restrict(tmp_path / "file")


def test_restrict_keeps_what_else_a_mode_says(tmp_path: Path) -> None:
    tmp_path.chmod(0o2777)
    restrict(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o2755
    with open(tmp_path / "file", "wb") as file:
        os.fchmod(file.fileno(), 0o666)
        restrict(file.fileno())
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
