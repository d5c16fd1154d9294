"""Texts in CSV files: none is a formula, and numbers stay numbers."""

import pyarrow as pa
import pytest

from ccscale.spreadsheet import cell, cells, text_of

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1+2",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-",
    "-cats/1",
    "+",
    "=",
    "-1e",
]
TEXTS = ["", "cats/1", "a=b", "-7", "+3.5", "-.5e-3", "1e5", "'x", " =1", "größe", "-1."]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", TEXTS)
def test_others(text):
    assert cell(text) == text


@pytest.mark.parametrize("text", [*FORMULAS, *TEXTS, "'=1", "''=1", "'-7", "'", "''"])
def test_a_mark_can_be_taken_off(text):
    assert text_of(cell(text)) == text
    assert text_of(cell(cell(text))) == cell(text)


def test_tables():
    texts = [*FORMULAS, *TEXTS, None]
    table = pa.table({"n": pa.array(range(len(texts))), "t": pa.array(texts)})
    found = cells(table)
    assert found.schema == table.schema
    assert found["n"].equals(table["n"])
    assert found["t"].to_pylist() == [*map(cell, [*FORMULAS, *TEXTS]), None]
