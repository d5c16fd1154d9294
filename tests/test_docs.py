"""The documentation says what is so: its error sentences, its rooms and its walk are the code's."""

import ast
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_imports import ROOMS, imports, trees

from ccscale.cli.main import build_parser, joined
from ccscale.cli.verbs import VERBS
from ccscale.errors import InputError

SOURCES = Path(__file__).parents[1]
PAGES = [*SOURCES.glob("*.md"), *SOURCES.glob("docs/**/*.md")]


def sentences_of_the_code() -> list[str]:
    """Every text in the code, with … for what is put into it."""
    found = []
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def has_in_order(text: str, parts: list[str]) -> bool:
    """Tell whether a text has some parts one behind the other."""
    end = 0
    for part in parts:
        start = text.find(part, end)
        if start < 0:
            return False
        end = start + len(part)
    return True


def test_error_sentences_are_those_of_the_code():
    page = (SOURCES / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sentences = re.findall(r"^`(.*)`\n:   ", page, flags=re.MULTILINE)
    code = sentences_of_the_code()
    assert len(sentences) > 40
    missing = [one for one in sentences if not any(has_in_order(text, one.split("…")) for text in code)]
    assert not missing


def test_the_rooms_are_told_in_their_order():
    page = (SOURCES / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|", page.partition("## Imports run downwards")[2], flags=re.MULTILINE)
    assert told == list(reversed(ROOMS))


def test_the_walk_is_of_nine_files_that_import_one_another():
    page = (SOURCES / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = re.findall(r"^\d\. `(ccscale/[\w/]+)\.py`", page, flags=re.MULTILINE)
    assert 2 < len(walk) <= 9
    assert len(set(walk)) == len(walk)
    modules = [path.removeprefix("ccscale/").replace("/", ".") for path in walk]
    arrows = {(found.source, found.target) for found in imports()}
    arrows |= {
        ("cli.verbs", f"cli.{verb.name}") for verb in VERBS
    }  # the table imports a verb when it is asked for
    for number, module in enumerate(modules[1:], start=1):
        names = {module, module.rpartition(".")[0]}  # a package hands on what it is for
        assert any((before, name) in arrows for before in modules[:number] for name in names), module


def test_files_that_are_named_are_there():
    for page in PAGES:
        named = re.findall(r"\b(?:ccscale|tests|tools)/[\w/]+\.py\b", page.read_text(encoding="utf-8"))
        assert [path for path in named if not (SOURCES / path).exists()] == [], page


def test_the_reference_of_the_config_has_every_key_under_its_section():
    pytest.importorskip(
        "latex2mathml", reason="what the site is built with (the extra `docs`) is not installed"
    )
    page = runpy.run_path(str(SOURCES / "docs" / "hooks.py"))["_config"]()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    keys = {
        section.split("\n")[0]: re.findall(r"^`([\w.]+)`\{", section, flags=re.MULTILINE)
        for section in sections
    }
    assert "stages.boost.epochs" in keys["stages.boost"]
    for section, own in keys.items():
        assert own
        assert section == "run, seed" or all(key.rpartition(".")[0] == section for key in own)


def commands_of(page: str) -> Iterator[str]:
    """Yield every command line of ours in a page's blocks of shell, without comments."""
    for block in re.findall(r"^ *```(?:sh|bash|console)\n(.*?)^ *```", page, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.search(r"(?:^|&& |-m |--module |bin/|srun )ccscale (.*)", line):
                yield re.split(r" +#| *(?:&&|\|\||[|;>]) ", found[1])[0]


def test_commands_are_such_as_the_command_line_takes(capsys):
    """The verbs and options that the pages and the configs' heads name are there."""
    lines = [line for path in PAGES for line in commands_of(path.read_text(encoding="utf-8"))]
    heads = [
        path.read_text(encoding="utf-8").replace("\\\n#", " ")
        for path in (SOURCES / "configs").glob("*.yaml")
    ]
    lines += [
        line for head in heads for line in re.findall(r"^#   ccscale ([^#\n]*)", head, flags=re.MULTILINE)
    ]
    assert len(lines) > 100
    refused = []
    for line in lines:
        try:
            build_parser().parse_args(joined(shlex.split(line)))
        except (SystemExit, InputError) as error:
            refused += [f"ccscale {line}: {error}{capsys.readouterr().err}"] if str(error) != "0" else []
    assert refused == []
