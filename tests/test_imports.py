"""Imports run downwards only: a room of the package knows what stands below it, and nothing above.

An import counts wherever it stands: at a module's top, in a function, or for its types alone.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import ccscale

PACKAGE = Path(ccscale.__file__).parent

# From the ground up: a room is a folder with all that is in it, or modules at the top. The ground has what is named
# nowhere else of these; the package itself, which hands out names of all, is the roof.
ROOMS = {
    "base": "",
    "preempt": "preempt",
    "config": "config",
    "dist": "dist process_group attendance device",
    "images": "data.images",
    "order": "data.order",
    "remote": "data.remote",
    "shards": "data.shards",
    "sources": "data.sources",
    "conversion": "data.conversion",
    "data": "data",
    "features": "features",
    "loss": "loss",
    "model": "model",
    "engine": "engine",
    "checkpoint": "checkpoint",
    "draw": "draw",
    "evaluate": "evaluate",
    "export": "export",
    "embed": "embed",
    "train": "train",
    "launch": "launch",
    "plan": "plan",
    "doctor": "doctor",
    "clusters": "clusters",
    "report": "report",
    "own_images": "own_images",
    "serve": "serve",
    "estimator": "estimator",
    "demo": "demo",
    "cli": "cli __main__",
    "ccscale": "ccscale",
}


class Import(NamedTuple):
    """A module's import: who imports, what, and which of its names; all modules without ``ccscale.``."""

    source: str
    line: int
    target: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


@cache
def trees() -> dict[str, ast.Module]:
    """Return every module's syntax tree, by its name without ``ccscale.``; the package itself is ""."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports() -> Iterator[Import]:
    """Yield every import of a module of ours."""
    for source, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                named = [(alias.name, None) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{source}:{node.lineno} imports from '.': name the package"
                named = [(node.module or "", alias.name) for alias in node.names]
            else:
                continue
            for module, name in named:
                package, _, target = module.partition(".")
                if package != "ccscale":
                    continue
                inner = f"{target}.{name}".lstrip(".")
                if inner in trees():
                    target, name = inner, None
                yield Import(source, node.lineno, target, name)


def room(module: str) -> str:
    """Return the room of a module: the one that names the longest part of it."""
    homes = {place: name for name, places in ROOMS.items() for place in places.split()}
    place = module or "ccscale"
    while place not in homes and "." in place:
        place = place.rpartition(".")[0]
    if place not in homes:
        assert (PACKAGE / f"{place}.py").is_file(), f"the folder of ccscale.{module} is in no room"
        return "base"
    return homes[place]


# Rooms and modules that know nothing of files, engines or processes, and what they may import.
PURE = {
    "data.order": ("array_types", "config", "data.order", "errors", "philox"),
    "loss": ("dist", "kernel_trial", "loss"),
    "evaluate.metrics": ("array_types", "evaluate.contingency", "evaluate.matching"),
}


def test_what_is_pure_knows_no_files_engines_or_groups() -> None:
    def within(name: str, place: str) -> bool:
        return f"{name}.".startswith(f"{place}.")

    found = list(imports())
    assert all(any(within(each.source, place) for each in found) for place in PURE)
    assert not [
        str(each)
        for each in found
        for place, may in PURE.items()
        if within(each.source, place) and not any(within(each.target, name) for name in may)
    ]


def test_imports_run_downwards():
    floors = {name: floor for floor, name in enumerate(ROOMS)}
    up = [found for found in imports() if floors[room(found.target)] > floors[room(found.source)]]
    assert not list(map(str, up))


def test_no_module_imports_itself_round_a_corner():
    above: dict[str, set[str]] = {name: set() for name in trees()}
    for found in imports():
        above[found.source].add(found.target)
    try:
        TopologicalSorter(above).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_names_are_imported_from_where_they_are_defined():
    """But for those that a package's own module hands on: they are what it is for."""
    borrowed: dict[str, set[str]] = {name: set() for name in trees()}
    for found in imports():
        borrowed[found.source].add(found.name or "")
    handed_on = [
        f"{found}'s {found.name}, which it only borrows"
        for found in imports()
        if found.name in borrowed[found.target] and not PACKAGE.joinpath(*found.target.split(".")).is_dir()
    ]
    assert not handed_on


def test_no_two_test_modules_have_one_name():
    """The ranks that a test starts import it by its name, and would find the other one."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
