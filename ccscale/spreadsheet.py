"""Escapes text in CSV files: a spreadsheet would evaluate cells that begin like a formula (CWE-1236).

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return and is no number gets a ``'`` in
front, which spreadsheets take for "this is text".
"""

import re

import pyarrow as pa
import pyarrow.compute as pc

FORMULA = r"'*[=+\-@\t\r]"  # also one that stands marked already, so that a mark can be taken off again
NUMBER = r"[+\-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+\-]?[0-9]+)?"


def cell(text: str) -> str:
    """Return a text as a cell of a CSV file."""
    return f"'{text}" if re.match(FORMULA, text) and not re.fullmatch(NUMBER, text) else text


def text_of(cell: str) -> str:
    """Return the text of which `cell` made a cell."""
    return cell[1:] if cell.startswith("'") and re.match(FORMULA, cell[1:]) else cell


def cells(table: pa.Table) -> pa.Table:
    """Return a table whose columns of text are cells of a CSV file."""
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(number)
            numbers = pc.match_substring_regex(column, f"^({NUMBER})$")
            formulas = pc.and_(pc.match_substring_regex(column, f"^{FORMULA}"), pc.invert(numbers))
            marked = pc.binary_join_element_wise(pa.scalar("'"), column, pa.scalar(""))
            table = table.set_column(number, field, pc.if_else(formulas, marked, column))
    return table
