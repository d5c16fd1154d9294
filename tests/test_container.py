"""What the images are made of agrees with the package, and the scripts' container lines are such as bash takes."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

SOURCES = Path(__file__).parents[1]
RECIPES = [SOURCES / "Containerfile", SOURCES / "container" / "ccscale.def"]
PYTHON_OF = {"ubuntu22.04": "3.10", "ubuntu24.04": "3.12", "ubuntu26.04": "3.14"}
"""What their python3 is."""


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return tomllib.loads((SOURCES / "container" / "pylock.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((SOURCES / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python_of_the_lock() -> str:
    head = (SOURCES / "container" / "pylock.toml").read_text(encoding="utf-8").split("\n\n")[0]
    return re.search(r"^#    uv pip compile pyproject.toml .*--python-version ([\d.]+) ", head, re.MULTILINE)[
        1
    ]


def test_the_lock_has_what_the_package_asks_for(lock, project):
    locked = {package["name"]: package["version"] for package in lock["packages"]}
    for line in (*project["dependencies"], *project["optional-dependencies"]["pretrained"]):
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), line


def test_every_file_of_the_lock_has_its_hash_and_suits_its_python(lock):
    python = "cp" + python_of_the_lock().replace(".", "")
    for package in lock["packages"]:
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        assert files, package["name"]
        assert all(len(file["hashes"]["sha256"]) == 64 for file in files)
        for wheel in package.get("wheels", ()):
            tags = parse_wheel_filename(wheel["url"].rpartition("/")[2].replace("%2B", "+"))[3]
            assert any(t.interpreter in (python, "py3", "py2", "cp312") or t.abi == "abi3" for t in tags)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_the_base_has_the_python_of_the_lock(recipe, project):
    base = re.search(r"\bBASE=\S*nvidia/cuda:[\d.]+-base-(ubuntu[\d.]+)$", recipe.read_text(), re.MULTILINE)
    assert PYTHON_OF[base[1]] == python_of_the_lock()
    assert SpecifierSet(project["requires-python"]).contains(python_of_the_lock())


def test_both_images_are_of_one_base_and_one_installer():
    bases = {re.search(r"nvidia/cuda:(\S+)", recipe.read_text())[1] for recipe in RECIPES}
    assert len(bases) == 1
    assert all("/build/container/install " in recipe.read_text() for recipe in RECIPES)
    subprocess.run(["sh", "-n", SOURCES / "container" / "install"], check=True)
    assert (SOURCES / "container" / "install").stat().st_mode & 0o111
    assert re.search(r"^USER [1-9]", RECIPES[0].read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", sorted((SOURCES / "slurm").glob("*.sbatch")), ids=lambda path: path.stem)
def test_the_container_lines_of_a_script(script):
    """What stands behind "or:" is put in its place, and srun is handed its words."""
    text = script.read_text(encoding="utf-8")
    text, found = re.subn(r"^(CONTAINER|PYXIS)=\(\) +# or: (\1=\(.*\))$", r"\2", text, flags=re.MULTILINE)
    assert found == 2
    stand_ins = "srun() { printf '%s\\n' \"$@\"; }; scontrol() { echo node1; }\n"
    done = subprocess.run(
        ["bash", "-c", stand_ins + text, script.name, "a", "b"],
        env={
            "PATH": "/usr/bin:/bin",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "n",
        }
        | {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    at = words.index("apptainer")
    assert words[at : at + 2] == ["apptainer", "exec"]
    assert "ccscale.sif" in words[at:]
    assert words[words.index("ccscale.sif") + 1] == "ccscale"
    assert "--container-image=ccscale.sqsh" in words[:at]


@pytest.mark.parametrize(
    ("stand_in", "code", "says"),
    [
        ("echo 'No known vulnerabilities found'", 0, "audit: No known vulnerabilities found"),
        ('while [ "$1" != --output ]; do shift; done; echo CVE-1 >"$2"; echo found 1; exit 1', 1, "CVE-1"),
        ("echo 'absl-py: not found on PyPI' >&2; exit 1", 0, "NOT made"),
    ],
    ids=["none", "some", "unreachable"],
)
def test_an_audit_says_whether_it_was_made(tmp_path, stand_in, code, says):
    (tmp_path / "pip-audit").write_text(f"#!/bin/sh\n{stand_in}\n")
    (tmp_path / "pip-audit").chmod(0o755)
    if not (SOURCES / ".ci").exists():
        pytest.skip("not in an sdist")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run([SOURCES / ".ci" / "audit"], env=env, capture_output=True, text=True)
    assert done.returncode == code
    assert says in done.stdout
