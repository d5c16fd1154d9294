"""Checks of the versions of Python and all required packages, and of the compiler."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from ccscale.doctor.finding import Finding

LEAST_PYTHON = (3, 11)
PROGRAM = "#include <vector>\nint main() { return 0; }\n"
COMPILE_SECONDS = 60


def check_versions() -> list[Finding]:
    """Compare the installed versions with the required ones."""
    wanted = [Requirement(line) for line in requires("ccscale") or ()]
    found, wrong = list[str](), list[Finding]()
    if sys.version_info[:2] < LEAST_PYTHON:
        says = f"{platform.python_version()}, but ccscale needs 3.11"
        wrong.append(Finding("Python", "wrong", says, "create an environment with a newer one"))
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        remedy = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(Finding(requirement.name, "wrong", "not installed", remedy))
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            says = f"{there} is installed, but ccscale needs {requirement.specifier}"
            wrong.append(Finding(requirement.name, "wrong", says, remedy))
        found.append(f"{requirement.name} {there}")
    python = f"Python {platform.python_version()}, ccscale {version('ccscale')}"
    return [*wrong, Finding("versions", "good", ", ".join([python, *found]))]


def check_compiler() -> list[Finding]:
    """Compile a line of C++, as `torch.compile` does; nothing else needs a compiler."""
    name = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    remedy = "train.compile=true needs a C++ compiler: `apt install g++`, or a module of your cluster"
    if name is None:
        return [Finding("compiler", "note", "none found (g++, clang++)", remedy)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "program.cpp")
        source.write_text(PROGRAM)
        command = [name, "-fopenmp", str(source), "-o", str(source.with_suffix(""))]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMPILE_SECONDS, errors="replace"
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return [Finding("compiler", "note", f"{name} cannot be run: {error}", remedy)]
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [Finding("compiler", "note", f"{name} does not compile with OpenMP: {why}", remedy)]
    return [Finding("compiler", "good", f"{name} works (train.compile can be used)")]
