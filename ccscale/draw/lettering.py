"""Text in pictures: a font that has the letters, and a length that fits.

Pillow brings one font, which has little beyond ASCII; for other names the fonts of the system are examined, and
where none has the letters these are spelled in ASCII as far as they can be.
"""

import functools
import unicodedata

from PIL import ImageDraw, ImageFont

from ccscale.printing import visible

SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
)
NO_LETTER = "\uffff"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def legible(text: str, size: int) -> tuple[str, Font]:
    """Return a text as it can be written in a line, and the font to write it in."""
    text, fonts = visible(text), _fonts(size)
    for font in fonts:
        if _has_letters(font, text):
            return text, font
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().strip()
    return plain or "?", fonts[0]


def shorten(text: str, width: int, font: Font) -> str:
    """Shorten a text to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def write(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    width: int,
    size: int,
    ink: tuple[int, int, int],
) -> None:
    """Write a line from its upper left `corner` on, no wider than `width` pixels."""
    text, font = legible(text, size)
    pen.text(corner, shorten(text, width, font), ink, font)


def width_of(text: str, size: int) -> float:
    """Return how wide a text is in pixels."""
    text, font = legible(text, size)
    return font.getlength(text)


@functools.cache
def _fonts(size: int) -> list[Font]:
    found: list[Font] = [ImageFont.load_default(size)]
    for name in SYSTEM_FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return found


def _has_letters(font: Font, text: str) -> bool:
    missing = bytes(font.getmask(NO_LETTER))
    return all(bytes(font.getmask(letter)) != missing for letter in set(text) if not letter.isspace())
