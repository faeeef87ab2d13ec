"""A character that the default font lacks is drawn in another of the machine's, or its text is beside the picture."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny_script
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from common import fonts, generated, lettering, pictures, run_log

NAMES = ("cat", "中文", "ฉ")
IMAGES = np.zeros((3, 8, 8, 1), np.uint8)


def make_font(path, characters):
    """Write a font in which each of the characters is a square."""
    pen = TTGlyphPen(None)
    for step, point in enumerate([(100, 0), (100, 800), (900, 800), (900, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square" for character in characters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "square"), (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": f"Made of {path.stem}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def machine(monkeypatch):
    """A function that makes these the machine's fonts."""

    def forget():
        for function in (fonts.of, fonts._others, lettering._visible):
            function.cache_clear()
        lettering._reported.clear()

    def install(*paths):
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(map(str, paths)))
        forget()

    install()
    yield install
    forget()


def test_a_character_is_drawn_in_a_font_of_the_machine_that_has_it(machine, tmp_path):
    without = pictures.page("中中", "")
    machine(make_font(tmp_path / "one.ttf", "中文"), make_font(tmp_path / "two.ttf", "ฉ"))
    assert fonts.of("中") == tmp_path / "one.ttf"
    assert fonts.pieces("中文") == [("中文", tmp_path / "one.ttf")]
    assert fonts.pieces("a中ฉ") == [
        ("a", fonts.default()),
        ("中", tmp_path / "one.ttf"),
        ("ฉ", tmp_path / "two.ttf"),
    ]
    page = pictures.page("中中", "")
    assert (page < 40).all(axis=-1).sum() > 1.5 * (without < 40).all(axis=-1).sum()  # two full squares
    assert lettering.width("a中") == pytest.approx(lettering.width("a") + 14, abs=1)


@pytest.mark.parametrize("anchor", ["la", "lm", "mm"])
def test_text_in_several_fonts_stands_where_text_in_one_does(machine, tmp_path, anchor):
    from PIL import Image, ImageDraw

    machine(make_font(tmp_path / "one.ttf", "中"))
    boxes = []
    for text in ("HH", "H中"):
        image = Image.new("L", (200, 60))
        lettering.write(ImageDraw.Draw(image), (100, 30), text, 255, anchor=anchor)
        boxes.append(np.array(image.getbbox()))
    np.testing.assert_allclose(boxes[0], boxes[1], atol=6)
    assert abs(boxes[0][3] - boxes[1][3]) <= 1  # the base line


def test_charts_use_the_machines_fonts(machine, tmp_path):
    machine(make_font(tmp_path / "one.ttf", "中文"), make_font(tmp_path / "two.ttf", "ฉ"))
    with warnings.catch_warnings(action="error"):  # of matplotlib's about missing glyphs
        pictures.save_scatter(Path("scatter.png"), np.eye(3)[:, :2], np.arange(3), NAMES)
        pictures.save_confusion(Path("confusion.png"), np.eye(3, dtype=int), NAMES)
    assert sorted(path.name for path in Path().iterdir()) == ["confusion.png", "scatter.png"]


def test_without_a_font_the_text_is_beside_the_picture_and_one_line_names_a_font(machine, capsys):
    assert lettering.visible("a中") == f"a{lettering.STAND_IN}"
    labels = np.arange(3)
    generated.save_grid(Path("grid.png"), IMAGES, labels, NAMES)
    pictures.save_scatter(Path("scatter.png"), np.eye(3)[:, :2], labels, NAMES)
    pictures.save_confusion(Path("confusion.png"), np.eye(3, dtype=int), NAMES)
    for name in ("grid", "scatter", "confusion"):
        assert Path(f"{name}.txt").read_text() == "cat\n中文\nฉ\n"
    assert capsys.readouterr().out == (
        "grid.png: no font on this machine has 中 文 ฉ; install Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk), "
        "Noto Sans Thai (Debian, Ubuntu: fonts-noto-core); the text is in grid.txt\n"
    )


@pytest.mark.parametrize(
    ("character", "font"),
    [("ア", "Noto Sans CJK "), ("한", "Noto Sans CJK "), ("ከ", "Noto Sans Ethiopic "), ("🦊", "Noto Emoji ")],
)
def test_fonts_to_install(character, font):
    assert fonts.to_install(character).startswith(font)


def test_hebrew_arabic_and_common_emoji_need_no_font_of_the_machine(machine):
    for text in ("שלום", "مرحبا", "😀"):
        assert lettering.visible(text) == text


def test_texts_in_the_default_font_search_no_other(machine, monkeypatch, capsys):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: 1 / 0)
    pictures.save_png(Path("grid.png"), pictures.grid(IMAGES, 1, ("é", "Ж", "λ\u200b")), ("é", "Ж", "λ\u200b"))
    assert [path.name for path in Path().iterdir()] == ["grid.png"]
    assert capsys.readouterr().out == ""


def test_fonts_that_cannot_be_used_are_passed_over(machine, tmp_path):
    (tmp_path / "damaged.ttf").write_bytes(b"damaged")
    boxes = make_font(tmp_path / "LastResort.otf", "中")
    machine(tmp_path / "damaged.ttf", tmp_path / "gone.ttf", boxes)
    assert fonts.of("中") is None
    bold, regular = (make_font(tmp_path / f"{name}.ttf", "中") for name in ("A-Bold", "B-Regular"))
    machine(bold, regular)
    assert fonts.of("中") == regular


def test_lines_are_wrapped_at_their_width_in_columns():
    assert lettering.wrap("abcde", 2) == ["ab", "cd", "e"]
    assert lettering.wrap("a中文b", 3) == ["a中", "文b"]
    assert lettering.wrap("", 3) == [""]


def test_a_run_with_class_names_or_texts_without_a_font(machine, tiny_folder, capsys, tmp_path):
    pictures_of = tiny_folder(classes=("猫", "犬"))
    flags = ["--data", str(pictures_of), "--conditional", "--epochs", "1", "--name", "own", "--precision", "float32"]
    tiny_script.main(flags)
    run = Path("outputs/tiny_script/own")
    assert (run / "samples.txt").read_text() == "犬\n猫\n"
    assert f"{run}/samples.gif: no font on this machine has 犬 猫; install Noto Sans CJK" in capsys.readouterr().out
    machine()
    (tmp_path / "samples").mkdir()
    run_log.RunLog(tmp_path, False).show(3, pictures.page("中", ""), "中")
    line = f"{tmp_path}/samples/step_00000003.png: no font on this machine has 中; install Noto Sans CJK"
    assert line in capsys.readouterr().out
    assert (tmp_path / "samples/step_00000003.txt").read_text() == "中"
