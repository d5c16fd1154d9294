"""What is installed from a wheel, where there is no checkout: recipes by name, batch scripts, the demo's config."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A wheel, unpacked as pip does it."""
    root = tmp_path_factory.mktemp("wheel")
    copy = root / "sources"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "ccscale", "configs", "slurm"):
        into = shutil.copytree if (SOURCES / name).is_dir() else shutil.copy
        into(SOURCES / name, copy / name, **({"symlinks": True} if into is shutil.copytree else {}))
    build = ["wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(root), str(copy)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, capture_output=True, timeout=250)
    (wheel,) = root.glob("ccscale-*.whl")
    zipfile.ZipFile(wheel).extractall(root / "site")
    return root / "site"


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
