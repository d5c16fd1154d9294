"""What is installed from a wheel, where there is no checkout: recipes by name, batch scripts, the demo's config.

And that wheel and sdist are the same bytes, whenever they are built, and the sdist has what the tests need.
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


TREES = ("ccscale", "configs", "slurm", "tests", "tools", "docs")
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "mkdocs.yml")


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
