"""Every character is drawn, as itself or as a visible stand-in, and no text stops a training."""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tiny_script

from common import fonts, lettering, pictures, tables

MANY = ("Cn", "Co", "Cs", "Lo")  # unassigned, private, half a character, and most ideographs: every 97th of these
CHARACTERS = [
    character
    for number, character in enumerate(map(chr, range(sys.maxunicode + 1)))
    if unicodedata.category(character) not in MANY
    or unicodedata.bidirectional(character) in ("R", "AL")
    or number % 97 == 0
]


def is_drawn(character):
    return fonts.load(14, None, fonts.of(character)).getmask(character).getbbox() is not None


def test_every_character_is_drawn_as_itself_or_as_a_stand_in():
    for character in CHARACTERS:
        shown = lettering.visible(character)
        if unicodedata.category(character) == "Zs":
            assert shown == " "
        elif character == "\t":
            assert shown == "    "
        else:
            assert shown in (character, lettering.STAND_IN), ascii(character)
            assert is_drawn(shown), ascii(character)


def test_what_has_no_shape_or_moves_other_text_has_a_stand_in():
    for character in CHARACTERS:
        if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp") and character != "\t":
            assert lettering.visible(character) == lettering.STAND_IN, ascii(character)


def test_all_of_them_in_lines_as_a_network_may_write_them():
    shuffled = np.random.default_rng(0).permutation(CHARACTERS).tolist()
    for start in range(0, len(shuffled), 64 * 14):
        pictures.page("".join(shuffled[start : start + 64 * 14]), "a caption")


def test_tabs_keep_their_columns():
    assert lettering.visible("a\tb\t\tc") == "a   b       c"


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "\x85", "\u2028", "\u2029", "\x1c", "\u202eabc", "", "\ud800"])
def test_names_of_rows_and_columns_with_line_ends(name):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert pictures.grid(images, 1, (name, "b")).shape[1] > pictures.grid(images, 1).shape[1]
    assert pictures.table(images[:, None], [name], [name, "b"], [True, False]).dtype == np.uint8


def test_letters_that_cannot_be_laid_out_together_are_drawn_one_by_one(monkeypatch):
    alone = pictures.page("abc", "caption")
    load = fonts.load

    def refusing_font(size, layout=None, path=None):
        if layout is None:
            raise RuntimeError("raqm_layout() failed.")
        return load(size, layout, path)

    monkeypatch.setattr(fonts, "load", refusing_font)
    assert np.abs(pictures.page("abc", "caption").astype(int) - alone).mean() < 5
    assert lettering.width("abc") == pytest.approx(load(14).getlength("abc"), abs=2)


@pytest.mark.parametrize("name", ["a$b$", "$", "_hidden", "$\\frac$", "a\nb", "\\$x$"])
def test_charts_with_class_names_that_matplotlib_would_read_as_formulas(name):
    labels = np.array([0, 1, 0, 1])
    names = (name, "b")
    pictures.save_scatter(Path("scatter.png"), np.eye(4)[:, :2], labels, names)
    pictures.save_confusion(Path("confusion.png"), np.eye(2, dtype=int), names)
    assert Path("scatter.png").exists()
    assert Path("confusion.png").exists()


def test_a_picture_that_cannot_be_drawn_is_reported_and_the_run_is_complete(tiny_run, monkeypatch, capsys):
    (tiny_run / "samples/step_00000020.png").write_bytes(b"damaged")
    monkeypatch.setattr(pictures, "save_curves", lambda path, rows: 1 / 0)
    tiny_script.main(["--resume", "latest", "--epochs", "2"])
    printed = capsys.readouterr().out
    assert f"{tiny_run}/samples.gif cannot be drawn (cannot identify image file" in printed
    assert f"{tiny_run}/curves.png cannot be drawn (division by zero); continuing without it" in printed
    assert "done: 186 steps" in printed
    assert tables.read(tiny_run / "metrics.csv")[-1]["step"] == "150"
