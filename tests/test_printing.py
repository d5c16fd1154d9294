"""What is printed: data letter for letter, tables whole at any width."""

import re

import pytest

from ccscale.printing import TextTable, put, visible
from ccscale.progress import Meter, say

NAMES = ["[/new]", "[red]shoe", "[link=x]y", ":car:", "100%", "{task}", "größe 漢字"]


@pytest.mark.parametrize("name", NAMES)
def test_data_are_no_markup(name, capsys):
    put(f"of {name}")
    say(f"of {name}")
    table = TextTable("name", name, text=("name",), title=f"title {name}")
    table.add(name, name)
    table.put()
    out, err = capsys.readouterr()
    assert err == f"of {name}\n"
    lines = out.splitlines()
    assert lines[0] == f"of {name}"
    assert lines[1].rstrip() == f"title {name}"
    assert [line.count(name) for line in lines] == [1, 1, 0, 1, 0, 2, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_shows_data_as_they_are(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("ccscale.progress.CONSOLE._force_terminal", True)
    monkeypatch.setattr("ccscale.progress.CONSOLE._width", 200)
    with Meter(f"reading {name}", 3, f"u{name}", show=True) as meter:
        meter.update(1, f"note {name}")
    err = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    for text in (f"reading {name}", f"u{name}/s", f"note {name}"):
        assert text in err


def test_nothing_reaches_the_terminal_but_letters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    hostile = "a\x1b[2Jb\rc\nd\u202ee\udcfff\x9bg\u2028h"
    written = r"a\x1b[2Jb\rc\nd\u202ee\udcfff\x9bg\u2028h"
    assert visible(hostile) == written
    table = TextTable("x", hostile, text=("x", hostile))
    table.add(hostile, hostile)
    table.put()
    put(hostile)
    say(hostile)
    out, err = capsys.readouterr()
    assert out.count(written) == 4
    assert err == f"{written}\n"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_no_cell_is_cut_off(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    headers = ("clusters", "joined at", "information", "ACC", "NMI", "ARI", "most common class", "purity")
    table = TextTable(*headers, text=("most common class",))
    name = "a class whose name is a whole sentence, withaverylongwordinthemiddle, and more"
    table.add("10,000", "0.123", "0.456", "0.789", "0.234", "-0.567", name, "0.890")
    table.rule()
    table.add("1", "2", "3", "4", "5", "6", "", "7", bold=3)
    table.put()
    out = capsys.readouterr().out
    assert "…" not in out
    for word in " ".join(headers).split():
        assert word in out
    for cell in ("10,000", "0.123", "0.456", "0.789", "0.234", "-0.567", "0.890"):
        assert cell in out


def test_a_table_of_nine_columns_fits_into_80(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = TextTable("clusters", "joined at", "stability", "information", "ACC", "NMI", "ARI", "F", "purity")
    table.add("10,000", *["0.123"] * 5, "-0.123", "0.123", "0.123")
    table.put()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
