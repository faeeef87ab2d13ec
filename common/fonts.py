"""A font for each character: matplotlib's own, or else one of the machine's."""

import functools
import itertools
import re
import unicodedata
from pathlib import Path

from PIL import ImageFont

UNUSABLE = re.compile("lastresort|blank", re.IGNORECASE)  # fonts that draw each character as a box, or as nothing
UNUSUAL = re.compile("color|emoji|bold|italic|oblique|black|light|thin|condensed", re.IGNORECASE)  # the last choice
CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH", "KANGXI")


@functools.cache
def default() -> Path:
    """Return matplotlib's fixed-width font, which has Latin, Greek and Cyrillic letters; Pillow's has only ASCII."""
    import matplotlib  # imported here because it takes a moment

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"


@functools.cache
def of(character: str) -> Path | None:
    """Return a font that draws a character: the default one, or else the first that has it; None without any."""
    path = default() if ord(character) in _code_points(default()) else _others().get(ord(character))
    # Drawn alone, some characters are nothing, and characters of a font that holds bitmaps may be errors.
    return path if path and load(14, ImageFont.Layout.BASIC, path).getmask(character).getbbox() else None


def pieces(text: str) -> list[tuple[str, Path]]:
    """Divide a text into pieces, each with its font: a single one if a font has all the characters."""
    paths = [of(character) or default() for character in text]
    for path in dict.fromkeys([default(), *paths]):
        if _code_points(path).issuperset(map(ord, text)):
            return [(text, path)]
    groups = itertools.groupby(zip(text, paths, strict=True), key=lambda it: it[1])
    return [("".join(character for character, _ in group), path) for path, group in groups]


@functools.cache
def load(size: int, layout: ImageFont.Layout | None = None, path: Path | None = None) -> ImageFont.FreeTypeFont:
    """Return the font in a file, by default the one that `default` names, in a size in pixels."""
    return ImageFont.truetype(path or default(), size, layout_engine=layout)


def to_install(character: str) -> str:
    """Return the name of a free font that has a character, of a family that covers all of Unicode's scripts."""
    script = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    if script in CJK:
        return "Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"
    if unicodedata.category(character) in ("So", "Sk"):
        return "Noto Emoji and Noto Sans Symbols"
    return f"Noto Sans {script.capitalize()} (Debian, Ubuntu: fonts-noto-core)"


@functools.cache
def _others() -> dict[int, Path]:
    """Return the font of each code point that a font of the machine's has: the first in order of preference."""
    from matplotlib import font_manager

    paths = [Path(it) for it in font_manager.findSystemFonts()]  # afresh: a stored list would lack new fonts
    paths = [it for it in paths if not UNUSABLE.search(it.stem)]
    paths.sort(key=lambda it: (bool(UNUSUAL.search(it.stem)), "Noto" not in it.stem, it.name, it))
    found = {}
    for path in (default().with_name("DejaVuSans.ttf"), *paths):
        for code in _code_points(path):
            found.setdefault(code, path)
    return found


@functools.lru_cache(maxsize=16)
def _code_points(path: Path) -> frozenset[int]:
    """Return the code points of a font's characters; none if Pillow cannot draw it, as for coloured bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, 14)
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
