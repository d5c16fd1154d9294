"""The documentation says what is so: its error sentences are the code's."""

import ast
import re
from pathlib import Path

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
