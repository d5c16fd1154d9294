"""What the site takes from elsewhere while it is built.

- The command line, the config and the recipes from the code, where a page has ``<!-- from the code: config -->``.
- A notebook with its outputs, where a page has ``<!-- from the notebook: own-images -->``.
- Text of a file outside docs/, or the part between its marks, where a page has ``<!-- from README.md: own -->``.
- Links that leave docs/ work in a checkout; here they lead to the site's own pages.
- Formulas, ``$…$``, become MathML, which needs no script; drawings become part of the page, and take its colours.
"""

import argparse
import html
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

from ccscale.cli.main import build_parser
from ccscale.cli.parser import IntermixedParser
from ccscale.config import Config
from ccscale.config.keys import describe_keys
from ccscale.config.recipes import FOLDER, recipes

ROOT = Path(__file__).parents[1]
FROM_CODE = re.compile(r"<!-- from the code: (\w+) -->")
FROM_NOTEBOOK = re.compile(r"<!-- from the notebook: ([\w-]+) -->")
FROM_FILE = re.compile(r"<!-- from ([\w./]+?)(?:: (\w+))? -->")
ANSI = re.compile(r"\x1b\[[\d;]*m")  # bold, colours
OUTSIDE = {
    r"\((?:\.\./)*(CONTRIBUTING|CHANGELOG)\.md": lambda found: f"({found[1].lower()}.md",
    r"\(docs/": lambda found: "(",
    r"\((?:\.\./)+configs/([\w-]+)\.yaml\)": lambda found: f"(#{found[1]})",
}
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
DRAWING = re.compile(r'<p><img alt="([^"]*)" src="(?:\.\./)*images/([\w-]+\.svg)" ?/?></p>')


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put text of other files, and what the code says, where a page asks for it."""
    markdown = FROM_FILE.sub(lambda mark: _part(ROOT / mark[1], mark[2]), markdown)
    for pattern, instead in OUTSIDE.items():
        markdown = re.sub(pattern, instead, markdown)
    markdown = FROM_NOTEBOOK.sub(lambda mark: "\n\n".join(_cells(mark[1])), markdown)
    return FROM_CODE.sub(lambda mark: MADE[mark[1]](), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Turn formulas into MathML, and drawings into parts of the page."""
    return DRAWING.sub(_drawing, FORMULA.sub(_math, html))


def _part(path: Path, name: str | None) -> str:
    """Return a file's text, or what stands between the marks of a part."""
    text = path.read_text(encoding="utf-8")
    return (
        text if name is None else text.split(f"<!-- begin: {name} -->")[1].split(f"<!-- end: {name} -->")[0]
    )


def _cells(name: str) -> Iterator[str]:
    """Yield what a notebook of docs/notebooks has, as Markdown."""
    path = Path(__file__).with_name("notebooks").joinpath(f"{name}.ipynb")
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if picture := data.get("image/jpeg"):
                yield f'<img alt="what the cell above draws" src="data:image/jpeg;base64,{picture.strip()}">'
            else:
                text = "".join(output.get("text") or data["text/plain"])
                yield f"```text\n{ANSI.sub('', text).rstrip()}\n```"


def _drawing(found: re.Match[str]) -> str:
    """A drawing with the style of the page in place of its own."""
    svg = Path(__file__).with_name("images").joinpath(found[2]).read_text(encoding="utf-8")
    svg = re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)
    named = f'<svg role="img" aria-label="{found[1]}" '
    return f'<figure class="drawing">{svg.replace("<svg ", named, 1)}</figure>'


def _math(found: re.Match[str]) -> str:
    return convert(html.unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline")


def _cli() -> str:
    os.environ |= {"COLUMNS": "92", "NO_COLOR": "1"}  # wherever it is built, the help is the same
    return "\n".join(_commands(build_parser()))


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a section a command, those of its own sub-commands after it."""
    if isinstance(parser, IntermixedParser):
        parser.fill()
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield f"## `{parser.prog}`\n\n```text\n{parser.format_help()}```\n"
    for action in inner:
        for command in action.choices.values():
            yield from _commands(command)


def _config() -> str:
    lines: list[str] = []
    latest = None
    for key in describe_keys():
        section = key.name.rpartition(".")[0]
        if section != latest:
            latest = section
            lines += [f"## {section or 'run, seed'}", "", _about(section), ""]
        default = "required" if key.default == "(required)" else f"default {key.default}"
        facts = f"{key.kind}; {default}; {key.may_change}"
        lines += [
            f"`{key.name}`{{ #{key.name} }}",
            f":   *{facts}*<br>",
            f"    {html.escape(key.description)}",
            "",
        ]
    return "\n".join(lines)


def _about(section: str) -> str:
    """Return what a section is, by its path: stages.boost, say."""
    model: Any = Config
    for name in filter(None, section.split(".")):
        model = model.model_fields[name].annotation
    return str(model.__doc__).split("\n")[0] if model is Config else str(model.__doc__)


def _recipes() -> str:
    lines = []
    for name in recipes():
        text = Path(FOLDER, f"{name}.yaml").read_text(encoding="utf-8")
        lines += [f"### {name}", "", '??? example "The config"', "", "    ```yaml"]
        lines += [f"    {line}".rstrip() for line in text.splitlines()] + ["    ```", ""]
    return "\n".join(lines)


MADE: dict[str, Callable[[], str]] = {"cli": _cli, "config": _config, "recipes": _recipes}
