"""What is installed from a wheel, where there is no checkout: recipes by name, batch scripts, the demo's config.

And that the version is what git's tags say, that wheel and sdist are the same bytes, whenever they are built, and
that the sdist has what the tests need.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


TREES = ("ccscale", "configs", "container", "slurm", "tests", "tools", "docs")
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "mkdocs.yml", "Containerfile")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """What two builds have made, of copies of the sources that were written at other times."""
    root = tmp_path_factory.mktemp("built")
    for name in ("first", "second"):
        copy = root / name
        copy.mkdir()
        for tree in TREES:
            left_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCES / tree, copy / tree, symlinks=True, ignore=left_out)
        for file in FILES:
            (copy / file).write_bytes((SOURCES / file).read_bytes())
        command = [sys.executable, "-m", "hatchling", "build", "--directory", str(root / f"{name}.dist")]
        subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=250)
    return root / "first.dist", root / "second.dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The wheel, unpacked as pip does it."""
    (wheel,) = built[0].glob("ccscale-*.whl")
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def test_the_same_bytes_twice(built):
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in built)
    assert len(first) == 2
    assert first == second


def test_the_sdist_has_what_the_tests_need(built):
    (sdist,) = built[0].glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        found = {member.name.partition("/")[2] for member in archive}
    wanted = {
        str(path.relative_to(SOURCES))
        for tree in TREES
        for path in (SOURCES / tree).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - found == set()


def version_of(sources: Path) -> str:
    """Return what a build of these sources would be called."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git as nobody, with nobody's settings."""
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=os.environ | who | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def small_checkout(folder: Path) -> Path:
    """Make a repository of one commit that has what a version is made of."""
    (folder / "ccscale").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".git_archival.txt", ".gitattributes"):
        shutil.copy(SOURCES / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    return folder


@pytest.mark.skipif(not (SOURCES / ".git_archival.txt").exists(), reason="not in an sdist")
def test_the_version_is_what_the_tags_say(tmp_path):
    checkout = small_checkout(tmp_path / "checkout")
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert version_of(checkout).startswith(f"0.1.0.dev1+g{commit}")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", checkout.as_uri(), str(shallow))
    assert version_of(shallow) == version_of(checkout)
    archive(checkout, tmp_path / "untagged")
    assert version_of(tmp_path / "untagged") == "0.1.0.dev0"
    git(checkout, "tag", "v0.1.0")
    assert version_of(checkout) == "0.1.0"
    archive(checkout, tmp_path / "tagged")
    assert version_of(tmp_path / "tagged") == "0.1.0"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "one more")
    assert version_of(checkout).startswith("0.2.0.dev1+g")


def archive(checkout: Path, out: Path) -> None:
    """Write what GitHub offers as an archive."""
    tar = out.with_suffix(".tar")
    git(checkout, "archive", "-o", str(tar), "HEAD")
    shutil.unpack_archive(tar, out)


def test_an_sdist_keeps_its_version(built, tmp_path):
    (sdist,) = built[0].glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path)
    (unpacked,) = tmp_path.iterdir()
    assert f"ccscale-{version_of(unpacked)}" == unpacked.name


def ccscale(installed: Path, folder: Path, *arguments: str) -> str:
    """Run a command in an empty folder, return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "ccscale", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_recipes_and_scripts_come_with_it(installed, tmp_path):
    names = sorted(path.stem for path in (SOURCES / "configs").glob("*.yaml"))
    listed = ccscale(installed, tmp_path, "config", "--recipes")
    assert [line.split()[0] for line in listed.splitlines()] == names
    for name in ("folder", "cifar10-modern", "digits"):
        resolved = ccscale(installed, tmp_path, "config", name)
        assert resolved == ccscale(SOURCES, tmp_path, "config", str(SOURCES / "configs" / f"{name}.yaml"))
    where = ccscale(installed, tmp_path, "launch", "--scripts", "jobs").splitlines()
    assert where == [f"jobs/{path.name}" for path in sorted((SOURCES / "slurm").iterdir())]
    for path in where:
        assert (tmp_path / path).read_bytes() == (SOURCES / "slurm" / Path(path).name).read_bytes()
    demo = (installed / "ccscale" / "configs" / "digits.yaml").read_bytes()
    assert demo == (SOURCES / "configs" / "digits.yaml").read_bytes()
