"""Text in pictures: every character is drawn, as itself or as a visible stand-in."""

import contextlib
import functools
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import ImageDraw, ImageFont

from common import files, fonts

STAND_IN = "\N{REPLACEMENT CHARACTER}"
TAB = 4  # columns
_reported: set[str] = set()  # fonts to install that this process has named


def visible(text: str) -> str:
    """Return a line of text in which tabs and other blanks are spaces, and STAND_IN replaces what cannot be seen.

    That is every control, format, private and unassigned character, each end of a line or paragraph, and each other
    character that no font draws: a text layout engine may refuse or hide them, or turn the text around.
    """
    return "".join(map(_visible, text.replace("\r", STAND_IN).expandtabs(TAB)))


def write_beside(picture: Path, texts: Iterable[str]) -> None:
    """Write the texts that are drawn in a picture beside it, as .txt, if some of their characters have no font."""
    texts = list(texts)
    if report_without_font(picture, texts):
        files.write_text(picture.with_suffix(".txt"), "\n".join(texts) + "\n")


def report_without_font(picture: Path, texts: Iterable[str]) -> bool:
    """Return whether some characters of the texts in a picture have no font; once, print which one to install."""
    characters = dict.fromkeys(it for it in "".join(texts) if it.isprintable() and it != STAND_IN)
    lacking = [it for it in characters if _visible(it) == STAND_IN]
    needed = dict.fromkeys(map(fonts.to_install, lacking))
    if needed.keys() - _reported:
        _reported.update(needed)
        shown = " ".join(lacking[:5]) + (" …" if lacking[5:] else "")
        advice = f"install {', '.join(needed)}; the text is in {picture.with_suffix('.txt')}"
        print(f"{picture}: no font on this machine has {shown}; {advice}", flush=True)
    return bool(lacking)


def for_charts(name: str) -> str:
    """Return a name as matplotlib draws it: in its texts, dollars enclose formulas, and a leading _ hides a name."""
    return (" " if name.startswith("_") else "") + visible(name).replace("$", r"\$")


@contextlib.contextmanager
def chart(path: Path, names: Iterable[str]) -> Iterator[None]:
    """Within it, matplotlib draws a chart with these names in fonts that have their characters; then `write_beside`."""
    import matplotlib
    from matplotlib import font_manager

    families = list(matplotlib.rcParams["font.family"])
    for font in dict.fromkeys(map(fonts.of, visible("".join(names)).replace(" ", ""))):
        if font and font != fonts.default():
            known = {entry.fname for entry in font_manager.fontManager.ttflist}
            if str(font) not in known:
                font_manager.fontManager.addfont(font)
            families.append(font_manager.get_font(str(font)).family_name)
    with matplotlib.rc_context({"font.family": families}):
        yield
    write_beside(path, names)


def wrap(line: str, columns: int) -> list[str]:
    """Divide a line into pieces of this many columns; some characters, such as Chinese ones, take two."""
    pieces, room = [""], columns
    for character in line:
        size = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if size > room:
            pieces.append("")
            room = columns
        pieces[-1] += character
        room -= size
    return pieces


def write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, color, size: int = 14, anchor="la") -> None:
    """Draw a line of text at a place, (x, y); anchor: which of its points is there, "la", "lm" or "mm" as in Pillow."""
    pieces = fonts.pieces(visible(text))
    if [font for _, font in pieces] != [fonts.default()]:
        ascent, descent = fonts.load(size).getmetrics()
        x = place[0] - (width(text, size) / 2 if anchor[0] == "m" else 0)
        place = x, place[1] + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
        anchor = "ls"  # on the base line, which all fonts have in common
    for piece, font in pieces:
        try:
            draw.text(place, piece, color, fonts.load(size, None, font), anchor=anchor)
        except (RuntimeError, ValueError, OSError):  # from the layout of scripts such as Arabic: letter by letter
            draw.text(place, piece, color, fonts.load(size, ImageFont.Layout.BASIC, font), anchor=anchor)
        place = place[0] + _width(piece, size, font), place[1]


def width(text: str, size: int = 14) -> float:
    """Return the width of a line of text in pixels."""
    return sum(_width(piece, size, font) for piece, font in fonts.pieces(visible(text)))


def _width(piece: str, size: int, font: Path) -> float:
    try:
        return fonts.load(size, None, font).getlength(piece)
    except (RuntimeError, ValueError, OSError):  # as in `write`
        return fonts.load(size, ImageFont.Layout.BASIC, font).getlength(piece)


@functools.cache
def _visible(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return character if character.isprintable() and fonts.of(character) else STAND_IN
