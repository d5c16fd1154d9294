"""Every tool answers --help, so that none is broken by a name that has moved."""

from pathlib import Path

import pytest
from harness.tools import TOOLS, run_tool

SCRIPTS = sorted(
    str(path.relative_to(TOOLS))
    for path in [*TOOLS.glob("*.py"), *TOOLS.glob("*/*.py")]
    if 'if __name__ == "__main__":' in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str) -> None:
    done = run_tool(script, "--help")
    if "is not installed" in done.err:
        pytest.skip(done.err)
    assert done.code == 0, done.err
    assert Path(script).stem in done.out or "usage: " in done.out
