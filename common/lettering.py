"""Text in pictures: every character is drawn, as itself or as a visible stand-in."""

import functools
import unicodedata
from pathlib import Path

from PIL import ImageDraw, ImageFont

STAND_IN = "\N{REPLACEMENT CHARACTER}"
TAB = 4  # columns


def visible(text: str) -> str:
    """Return a line of text in which tabs and other blanks are spaces, and STAND_IN replaces what cannot be seen.

    That is every control, format, private and unassigned character, each end of a line or paragraph, and each other
    character that the font draws as nothing: a text layout engine may refuse or hide them, or turn the text around.
    """
    return "".join(map(_visible, text.replace("\r", STAND_IN).expandtabs(TAB)))


def for_charts(name: str) -> str:
    """Return a name as matplotlib draws it: in its texts, dollars enclose formulas, and a leading _ hides a name."""
    return (" " if name.startswith("_") else "") + visible(name).replace("$", r"\$")


def write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, color, size: int = 14, anchor="la") -> None:
    """Draw a line of text at a place, (x, y); anchor: which of its points is there, as in Pillow."""
    text = visible(text)
    try:
        draw.text(place, text, color, font(size), anchor=anchor)
    except (RuntimeError, ValueError, OSError):  # from the layout of scripts such as Arabic: draw letter by letter
        draw.text(place, text, color, font(size, ImageFont.Layout.BASIC), anchor=anchor)


def width(text: str, size: int = 14) -> float:
    """Return the width of a line of text in pixels."""
    text = visible(text)
    try:
        return font(size).getlength(text)
    except (RuntimeError, ValueError, OSError):  # as in `write`
        return font(size, ImageFont.Layout.BASIC).getlength(text)


@functools.cache
def font(size: int, layout: ImageFont.Layout | None = None) -> ImageFont.FreeTypeFont:
    """Return matplotlib's fixed-width font, which has Latin, Greek and Cyrillic letters; Pillow's has only ASCII."""
    import matplotlib  # imported here because it takes a moment

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
    return ImageFont.truetype(path, size, layout_engine=layout)


@functools.cache
def _visible(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    if not character.isprintable():
        return STAND_IN
    is_drawn = font(14, ImageFont.Layout.BASIC).getmask(character).getbbox()
    return character if is_drawn else STAND_IN
