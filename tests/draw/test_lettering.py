"""Names in pictures are legible whatever their letters, and as wide as their place."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ccscale.draw import lettering
from ccscale.draw.lettering import legible, shorten, width_of, write


@pytest.fixture
def no_system_fonts(monkeypatch):
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())
    lettering._fonts.cache_clear()
    yield
    lettering._fonts.cache_clear()


def test_plain_names_are_in_pillows_font():
    text, font = legible("king penguin, 12", 15)
    assert text == "king penguin, 12"
    assert font is lettering._fonts(15)[0]


def test_a_name_is_one_line():
    assert legible("two\nlines\x1b", 15)[0] == r"two\nlines\x1b"


@pytest.mark.usefixtures("no_system_fonts")
def test_letters_that_no_font_has_are_spelled_in_ascii():
    assert legible("Größe é", 15)[0] == "Groe e"
    assert legible("金魚", 15)[0] == "?"


def test_a_system_font_is_taken_for_its_letters(monkeypatch):
    try:
        ImageFont.truetype("DejaVuSans.ttf", 15)
    except OSError:
        pytest.skip("there is no DejaVuSans.ttf on this system")
    text, font = legible("Größe Ωλ", 15)
    assert text == "Größe Ωλ"
    assert font.getname()[0] == "DejaVu Sans"


def test_long_names_are_cut():
    name = "a very long name of a class of plants " * 3
    font = legible(name, 15)[1]
    short = shorten(name, 100, font)
    assert short.endswith("…")
    assert font.getlength(short) <= 100
    assert len(short) > 8
    assert shorten("cat", 100, font) == "cat"
    assert width_of("cat", 15) == font.getlength("cat")


def test_what_is_written_stays_within_its_width():
    picture = Image.new("RGB", (200, 40), "white")
    write(ImageDraw.Draw(picture), (10, 10), "x" * 100, 80, 15, (0, 0, 0))
    columns = np.flatnonzero((np.array(picture) < 128).any(axis=(0, 2)))
    assert 10 <= columns[0] < 14
    assert 70 < columns[-1] < 92
