"""The documentation says what is so: its error sentences, its rooms and its walk are the code's."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest
from test_imports import ROOMS, imports

from ccscale.cli.main import build_parser
from ccscale.cli.verbs import GROUPS, VERBS

SOURCES = Path(__file__).parents[1]


def sentences_of_the_code() -> list[str]:
    """Every text in the code, with … for what is put into it."""
    found = []
    for path in (SOURCES / "ccscale").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_error_sentences_are_those_of_the_code():
    page = (SOURCES / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sentences = re.findall(r"^`(.*)`\n:   ", page, flags=re.MULTILINE)
    code = sentences_of_the_code()
    assert len(sentences) > 40
    missing = []
    for sentence in sentences:
        pattern = re.compile(".*".join(map(re.escape, sentence.split("…"))), re.DOTALL)
        if not any(pattern.search(text) for text in code):
            missing.append(sentence)
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


def test_commands_of_the_guides_are_understood():
    parser, beside = build_parser(), {verb.name for verb in VERBS if verb.name.split()[0] not in GROUPS}
    seen, wrong = set(), []
    for page in [*SOURCES.glob("*.md"), *SOURCES.glob("docs/**/*.md")]:
        found = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for line in "".join(found).replace("\\\n", " ").splitlines():
            command, *words = shlex.split(line, comments=True) or [""]
            if command == "ccscale" and words:
                first = " ".join(words[:2])
                seen.add(words[0])
                try:
                    parser.parse_args([first, *words[2:]] if first in beside else words)
                except SystemExit as left:
                    wrong += [f"{page.name}: {line}"] if left.code else []
    assert len(seen) > 15
    assert not wrong


def test_files_that_are_named_are_there():
    for page in [*SOURCES.glob("*.md"), *SOURCES.glob("docs/**/*.md")]:
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
