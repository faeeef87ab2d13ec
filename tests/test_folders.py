"""Folders as people have them: links, earlier output, other kinds of files, loose pictures, train/ and test/."""

import json
import os
import re
import struct
import sys
import threading
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from common import datasets, folders, image_files, photographs, picture_formats, text_files
from common.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


@pytest.fixture(autouse=True)
def new_process():
    """Lines that a process prints once are printed in each test, and --output_dir is the default."""
    folders.print_once.cache_clear()
    folders.leave_out("outputs")


# Formats: what is a picture is known by its content, and no reader starts a program


@pytest.mark.parametrize("name", ["x.eps", "x.png", "x.jpg"])
def test_eps_never_starts_a_program(name, monkeypatch):
    def never(*arguments, **settings):
        raise AssertionError("a program was started")

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    for called in ("subprocess.Popen.__init__", "subprocess.check_call", "os.system"):
        monkeypatch.setattr(called, never)
    Path("pictures").mkdir()
    Path("pictures", name).write_bytes(EPS)
    for read in (photographs.read, lambda path: image_files.read_pictures([path], 8, 3)):
        with pytest.raises(UserError, match=rf"{name}.*EPS or PDF; convert it to PNG"):
            read(Path("pictures", name))
    with pytest.raises(UserError, match="no pictures in it"):
        datasets.load("pictures", 8)


def test_all_pictures_are_opened_with_named_formats():
    for path in [*ROOT.glob("*.py"), *(it for it in ROOT.glob("*/*.py") if it.parent.name != "tests")]:
        for call in re.findall(r"Image\.open\(.*", path.read_text()):
            assert "formats=" in call, path
    assert not {"EPS", "WMF", "IPTC", "MCIDAS", "MPEG"} & set(picture_formats.FORMATS)
    for page in ("dcgan_mnist.md", "deep_dream.md"):
        assert set(picture_formats.FORMATS) <= set(re.findall(r"\w+", (ROOT / "docs" / page).read_text())), page


def test_what_is_left_out_is_counted_by_kind_with_what_to_do(tiny_folder, capsys):
    folder = tiny_folder(count=2, classes=())
    (folder / "000.png").rename(folder / "without ending")
    (folder / "001.png").rename(folder / "wrong.gif")
    for number in range(3):
        (folder / f"{number}.HEIC").write_bytes(HEIC)
    (folder / "named.jpg").write_bytes(HEIC)
    (folder / "notes.txt").write_text("notes")
    for number in range(2):
        (folder / f"{number}.md").write_text("notes")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    os.mkfifo(folder / "pipe.png")
    assert datasets.load(str(folder), 16).files == ("without ending", "wrong.gif")
    line = capsys.readouterr().out.splitlines()[0]
    assert "4 HEIC (convert them to JPEG, or pip install pillow-heif)" in line
    assert "1 video (extract their frames" in line
    assert "1 .txt file," in line
    assert "2 .md files" in line
    assert "1 pipe, device or broken link" in line
    assert len(photographs.find(folder)) == 2
    for read in (photographs.read, lambda path: image_files.read_pictures([path], 8, 3)):
        with pytest.raises(UserError, match=r"pipe\.png.*is a pipe or a device"):
            read(folder / "pipe.png")
        with pytest.raises(UserError, match=r"named\.jpg.*HEIC; convert it to JPEG"):
            read(folder / "named.jpg")


def test_pillow_heif_is_used_if_it_is_installed(tiny_folder, monkeypatch):
    folder = tiny_folder(count=1, classes=())
    (folder / "a.heic").write_bytes(HEIC)

    def register():
        is_heic = lambda start: start[4:12] == b"ftypheic"  # noqa: E731
        Image.register_open("HEIF", lambda file, name: Image.new("RGB", (8, 8), "red"), is_heic)

    Image.init()
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    picture_formats.formats.cache_clear()
    try:
        assert len(datasets.load(str(folder), 8).images) == 2
    finally:
        picture_formats.formats.cache_clear()


def test_further_pages_of_a_tiff_are_named(capsys):
    pages = [Image.new("L", (8, 8), grey) for grey in (10, 20)]
    pages[0].save("two.tif", save_all=True, append_images=pages[1:])
    assert image_files.read_picture(Path("two.tif"), 8).max() == 10
    assert "only the first page of each file is read" in capsys.readouterr().out


# Memory


def test_pictures_decoded_at_a_time_stay_below_the_limit(tiny_folder, monkeypatch):
    monkeypatch.setattr(picture_formats, "MOST_PIXELS", 1000)
    room, most, at_once = picture_formats._Room(), [], threading.Barrier(4)

    def decode():
        at_once.wait()
        with room.taken(400):
            most.append(room.pixels)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 800
    assert room.pixels == 0


def test_bad_files_are_closed_up_in_place():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    kept = image_files._compacted(images, [0, 2, 5])
    assert kept.ravel().tolist() == [0, 2, 5]
    assert np.shares_memory(kept, images)


# The range of pixels

RAMP = np.linspace(0, 1, 16 * 16).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("12 bits.png", (RAMP * 4095).astype(np.uint16), "0 becomes black, 4,095 white"),
        ("8 within 16.tif", (RAMP * 255).astype(np.uint16), "0 becomes black, 255 white"),
        ("8 within 32.tif", (RAMP * 255).astype(np.int32), "0 becomes black, 255 white"),
        ("16 bits.png", (RAMP * 65535).astype(np.uint16), "0 becomes black, 65,535 white"),
        ("signed integers.tif", (RAMP * 4000 - 1000).astype(np.int32), "-1,000 becomes black, 3,000 white"),
        ("unit.tif", RAMP.astype(np.float32), "0 becomes black, 1 white"),
        ("overshoot.tif", (RAMP * 1.04 - 0.02).astype(np.float32), "0 becomes black, 1 white"),
        ("signed.tif", (RAMP * 2 - 1).astype(np.float32), "-1 becomes black, 1 white"),
        ("bytes.tif", (RAMP * 255).astype(np.float32), "0 becomes black, 255 white"),
        ("deep.tif", (RAMP * 65535).astype(np.float32), "0 becomes black, 65,535 white"),
        ("any.tif", (RAMP * 500 - 200).astype(np.float32), "-200 becomes black, 300 white"),
    ],
)
def test_the_range_of_pixels_is_found_and_reported(name, pixels, words, capsys):
    Path("pictures").mkdir()
    Image.fromarray(pixels).save(Path("pictures", name))
    images = datasets.load("pictures", 16).images
    assert words in capsys.readouterr().out
    tolerance = 6 if name == "overshoot.tif" else 1
    assert np.abs(images[0, ..., 0] - RAMP * 255).max() <= tolerance
    assert np.array_equal(photographs.read(Path("pictures", name)).pixels, np.repeat(images[0], 3, axis=-1))
    assert words in capsys.readouterr().out


def test_the_range_is_that_of_all_pictures_of_a_kind_and_nan_is_named(capsys):
    Path("pictures").mkdir()
    for name, most in (("dark", 200), ("light", 4095)):
        Image.fromarray((RAMP * most).astype(np.uint16)).save(f"pictures/{name}.png")
    pixels = RAMP.astype(np.float32)
    pixels[0, :2] = np.nan, np.inf
    Image.fromarray(pixels).save("pictures/nan.tif")
    images = datasets.load("pictures", 16).images[..., 0]
    output = capsys.readouterr().out
    assert [image.max() for image in images] == [12, 255, 255]  # dark, light, nan
    assert images[2, 0, :2].tolist() == [0, 0]
    assert "2 PNG of 16-bit pixels: values 0 to 4,095" in output
    assert "2 pixels are NaN, infinite or beyond 3.4e+38 and become black, in nan.tif" in output


@pytest.mark.parametrize(
    ("tag", "pixels", "words"),
    [
        ((262, 1, 0), ((1 - RAMP) * 65535).astype(np.uint16), "65,535 becomes black, 0 white"),
        ((262, 1, 0), ((1 - RAMP) * 4095).astype(np.uint16), "4,095 becomes black, 0 white"),
        ((339, 2, 1), (RAMP * (2**32 - 1)).astype(np.uint32).view(np.int32), "0 becomes black, 4.29497e+09 white"),
        ((339, 2, 2), (RAMP * 100 - 50).astype(np.int32), "-50 becomes black, 50 white"),
        (
            (339, 3, 3),
            np.where(RAMP > 0, RAMP, -3.4028235e38).astype(np.float32),
            "1 pixels are NaN, infinite or beyond",
        ),
    ],
)
def test_white_that_is_zero_unsigned_integers_and_no_data_are_recognised(tag, pixels, words, capsys):
    Path("pictures").mkdir()
    Image.fromarray(pixels).save("pictures/a.tif")
    number, before, after = tag
    entries = [struct.pack("<HHIHH", number, 3, 1, value, 0) for value in (before, after)]
    content = Path("pictures/a.tif").read_bytes()
    assert entries[0] in content
    Path("pictures/a.tif").write_bytes(content.replace(*entries))
    images = datasets.load("pictures", 16).images
    assert words in capsys.readouterr().out
    assert np.abs(images[0, ..., 0] - RAMP * 255).max() <= 3


@pytest.mark.parametrize(("most", "is_dark"), [(4095, True), (65535, False)])
def test_16_bit_colour_of_which_the_upper_bits_are_empty_is_named(most, is_dark, capsys):
    Path("pictures").mkdir()
    pixels = np.repeat((RAMP * most).astype(">u2")[..., None], 3, axis=-1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    parts = [struct.pack(">I", len(it)) + kind + it + struct.pack(">I", zlib.crc32(kind + it)) for kind, it in chunks]
    Path("pictures/a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    datasets.load("pictures", 16)
    assert ("PNG of 16-bit colour: only the upper 8 bits are read" in capsys.readouterr().out) == is_dark


def test_a_variant_of_a_format_that_is_not_read_is_named():
    Image.fromarray(np.zeros((9, 9), np.float32)).save("a.tif")
    content = Path("a.tif").read_bytes()
    Path("a.tif").write_bytes(
        content.replace(struct.pack("<HHIHH", 258, 3, 1, 32, 0), struct.pack("<HHIHH", 258, 3, 1, 24, 0))
    )
    with pytest.raises(UserError, match="damaged, or a kind of TIFF that is not read; convert it to PNG"):
        photographs.read(Path("a.tif"))


# Links, and output of earlier runs


def test_linked_folders_are_followed_and_loops_recognised(tiny_folder, tmp_path, capsys):
    folder, others = tiny_folder(count=1, classes=("cats",)), tiny_folder(count=1, classes=("dogs",), name="others")
    (folder / "dogs").symlink_to(others / "dogs")
    (folder / "cats" / "up").symlink_to(folder)
    (folder / "above").symlink_to(tmp_path)
    (others / "dogs" / "round").symlink_to(folder / "dogs")
    (others / "dogs" / "itself").symlink_to("itself")
    (others / "dogs" / "gone.png").symlink_to("nowhere")
    data = datasets.load(str(folder), 16)
    assert data.files == ("cats/000.png", "dogs/000.png")
    assert data.class_names == ("cats", "dogs")
    assert "leads back to its start" in capsys.readouterr().out


def run_folder(path):
    path.mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(path / "final.png")
    (path / "notes.txt").write_text("text")
    (path / "config.json").write_text(json.dumps({"script": "vae", "settings": {}, "data": {}}))


def test_output_of_earlier_runs_is_never_read(tiny_folder, monkeypatch, capsys):
    folder = tiny_folder(count=2)
    (folder / "a.txt").write_text("own text")
    run_folder(folder / "left" / "old" / "r")
    run_folder(folder / "results" / "vae" / "r")
    (folder / "results" / "vae" / "r" / "samples").mkdir()
    Image.new("RGB", (20, 20)).save(folder / "results" / "vae" / "r" / "samples" / "step_00000000.png")
    (folder / "linked").symlink_to(folder / "results" / "vae" / "r" / "samples")
    Image.new("RGB", (20, 20)).save(folder / "results" / "preview.png")
    folders.leave_out(str(folder / "results"))
    monkeypatch.chdir(folder)
    for data in (".", str(folder)):
        assert len(datasets.load(data, 16).images) == 4
        assert text_files.find([data], "utf-8") == [Path(data, "a.txt")]
    assert capsys.readouterr().out.count("results") == 2  # once for each name of the folder
    with pytest.raises(UserError, match=r"--data results/vae/r: is output of the run .*; copy pictures out of it"):
        datasets.load("results/vae/r", 16)


def test_other_programs_configurations_are_no_runs(tiny_folder):
    folder = tiny_folder(count=2)
    for content in ("[]", "{", '{"model_type": "vit"}', "[" * 100_000):
        (folder / "left" / "config.json").write_text(content)
        assert len(datasets.load(str(folder), 16).images) == 4


def test_a_run_in_the_folder_of_its_pictures_can_be_resumed(tiny_folder, tiny_flags, monkeypatch):
    import tiny_script

    monkeypatch.chdir(tiny_folder(count=8))
    flags = [*tiny_flags, "--data", ".", "--batch_size", "8", "--image_size", "8"]
    tiny_script.main([*flags, "--epochs", "1"])
    tiny_script.main(["--resume", "latest", "--epochs", "2"])
    assert json.loads(Path("outputs/tiny_script/latest/config.json").read_text())["data"]["pictures"] == 16


# Order and classes


def test_names_are_sorted_with_their_numbers_in_numerical_order(tiny_folder):
    assert folders.natural_order(["b10", "a", "b9", "b1.5", "b01", "b1"]) == ["a", "b01", "b1", "b1.5", "b9", "b10"]
    for name in ("frame10.png", "frame9.png", "frame1.png"):
        Image.new("RGB", (8, 8)).save(name)
    assert [path.name for path in photographs.find(Path())] == ["frame1.png", "frame9.png", "frame10.png"]
    for name in ("chapter10.txt", "chapter9.txt"):
        Path(name).write_text(name)
    assert [path.name for path in text_files.find(["."], "utf-8")] == ["chapter9.txt", "chapter10.txt"]
    folder = tiny_folder(count=1, classes=("10", "9"))
    assert datasets.load(str(folder), 16).class_names == ("9", "10")


def conditional_error(data):
    with pytest.raises(UserError) as raised:
        data.class_count(types.SimpleNamespace(conditional=True))
    return str(raised.value)


def test_classes_are_printed_as_a_tree_and_loose_pictures_named(tiny_folder, capsys):
    folder = tiny_folder(count=2, classes=("cats", "dogs"))
    datasets.load(str(folder), 16)
    tree = [line.split() for line in capsys.readouterr().out.splitlines()[:3]]
    assert tree[0][1:] == ["4", "pictures", "in", "2", "classes"]
    assert tree[1:] == [["├──", "cats", "2"], ["└──", "dogs", "2"]]
    Image.new("RGB", (20, 20)).save(folder / "preview.png")
    words = "preview.png lies beside cats/, dogs/"
    data = datasets.load(str(folder), 16)
    assert words in capsys.readouterr().out
    assert words in conditional_error(data)
    only = datasets.load(str(tiny_folder(count=2, classes=("cats",), name="only")), 16)
    assert "its pictures are all in cats/" in conditional_error(only)
    capsys.readouterr()
    datasets.load(str(tiny_folder(count=2, classes=("beside",), name="one")), 16)  # a name as in the message above
    assert "no classes" not in capsys.readouterr().out


def test_names_with_line_ends_and_terminal_codes_are_printed_escaped(tiny_folder, capsys):
    data = datasets.load(str(tiny_folder(count=1, classes=("a\nb", "\x1b[31mred"))), 16)
    assert data.class_names == ("\x1b[31mred", "a\nb")
    printed = capsys.readouterr().out
    assert r"─ \x1b[31mred " in printed
    assert r"─ a\nb " in printed


def test_train_and_test_are_recognised(tiny_folder, capsys):
    folder = tiny_folder(count=1, classes=("train/cats", "train/dogs", "test/cats", "val/dogs"))
    Image.new("RGB", (20, 20)).save(folder / "preview.png")
    data = datasets.load(str(folder), 16)
    assert data.files == ("train/cats/000.png", "train/dogs/000.png")
    assert data.class_names == ("cats", "dogs")
    assert "reading train/, leaving out test/, val/, the pictures beside it" in capsys.readouterr().out
    plain = tiny_folder(count=2, classes=("Train", "Test"), name="plain")
    data = datasets.load(str(plain), 16)
    assert (len(data.images), data.class_names) == (2, ())
