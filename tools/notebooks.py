#!/usr/bin/env python3
"""Runs the notebooks of docs/notebooks, each in an empty folder, and keeps their outputs; or compares them.

usage: python tools/notebooks.py [NOTEBOOK …]             after a change to a notebook or to what it shows
       python tools/notebooks.py --check [NOTEBOOK …]     whether what is kept is of the code as it stands

Numbers differ from machine to machine, and so do pictures: they are not compared.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
MOST_BYTES = 100_000
KEPT = ("image/jpeg", "text/plain")  # a picture as PNG is six times as large


def main() -> int:
    """Run them; 1 if an output differs."""
    parser = argparse.ArgumentParser(
        prog="notebooks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--check", action="store_true", help="compare, and keep nothing")
    args = parser.parse_args()
    different = []
    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        kept = nbformat.read(path, as_version=4)
        done = executed(kept)
        if args.check:
            different += [f"{path.name}, {what}" for what in differences(kept, done)]
        else:
            text = nbformat.writes(done)
            if len(text) > MOST_BYTES:
                sys.exit(
                    f"{path} would have {len(text):,} bytes, more than {MOST_BYTES:,}: draw smaller pictures"
                )
            path.write_text(f"{text.rstrip()}\n", encoding="utf-8")
    for line in different:
        print(line)
    if different:
        print("`python tools/notebooks.py` runs them, and keeps what comes out")
    return int(bool(different))


def executed(notebook: Any) -> Any:
    """Return a notebook with the outputs that its code has now; an error in a cell is raised."""
    done = nbformat.from_dict(notebook)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `ccscale` is
    quiet = {
        "PATH": commands,
        "PYTHONWARNINGS": "ignore",
    }  # tqdm tells, with its path, that ipywidgets is not there
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            done,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
        ).execute(env=os.environ | quiet)
    done.metadata = notebook.metadata  # not which Python it was
    for cell in done.cells:
        if "outputs" in cell:
            cell["outputs"] = whole(cell["outputs"])
        for output in cell.get("outputs", ()):
            if "data" in output:
                output["data"] = {kind: data for kind, data in output["data"].items() if kind in KEPT}
    return done


def whole(outputs: list[Any]) -> list[Any]:
    """Return the outputs of a cell with what it printed joined: it comes in pieces, as they are ready."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.get("name", "") == joined[-1].get("name"):
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def differences(kept: Any, done: Any) -> list[str]:
    """Return in what the outputs of two notebooks with the same cells differ."""
    return [
        f"cell {number}: {shape(before)} is kept, and it is {shape(now)}"
        for number, (before, now) in enumerate(zip(kept.cells, done.cells, strict=True))
        if shape(before) != shape(now)
    ]


def shape(cell: Any) -> list[Any]:
    """Return the number that a cell of code has, and its outputs' kinds and words."""
    outputs = cell.get("outputs", ())
    return [cell.get("execution_count"), *(_shape(output) for output in outputs)]


def _shape(output: Any) -> tuple[str, ...]:
    data = output.get("data", {})
    text = output.get("text", "" if "image/jpeg" in data else data.get("text/plain", ""))
    words = re.sub(r"[\d.,]*\d", "0", re.sub(r"\x1b\[[\d;]*m", "", text)).split()
    return output.output_type, *sorted(data), " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
