"""The user's own pictures: whatever Pillow reads, folders, and files that cannot be read."""

import resource
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import datasets, image_files, pixel_ranges
from common.errors import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture_of(path, size=16):
    return image_files.read_picture(path, size)


def assert_colour(pixels, colour, tolerance=12):
    assert np.abs(pixels.astype(int) - np.array(colour)).max() <= tolerance, pixels.reshape(-1, 3).mean(axis=0)


def png_of_one_bit(path, width, height):
    """A valid PNG, white, of a few hundred kilobytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(1)
    row = b"\0" + b"\xff" * ((width + 7) // 8)
    data = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


# One picture


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_an_animation_gives_its_first_frame(tmp_path, ending):
    path = tmp_path / f"moving.{ending}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    assert_colour(picture_of(path), RED)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    steps = np.array([0, 64, 128, 255])
    Image.fromarray((np.repeat(steps, 4) * 257).astype(np.uint16)[None].repeat(16, axis=0)).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    grey = picture_of(path)
    assert (grey == grey[..., :1]).all()
    assert np.array_equal(grey[8, 1::4, 0], steps)


def test_cmyk_jpeg(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(path)
    assert_colour(picture_of(path), RED)


def test_palette(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.new("P", (16, 16), 3)
    image.putpalette([*RED, *GREEN, *GREEN, *BLUE])
    image.save(path)
    assert_colour(picture_of(path), BLUE)


def test_transparent_colour_of_a_palette_becomes_white(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.new("P", (16, 16), 0)
    image.putpalette([*RED, *GREEN])
    image.paste(1, (8, 0, 16, 16))
    image.save(path, transparency=0)
    pixels = picture_of(path)
    assert_colour(pixels[:, :7], (255, 255, 255))
    assert_colour(pixels[:, 9:], GREEN)


def test_transparent_parts_become_white(tmp_path):
    path = tmp_path / "alpha.png"
    Image.new("RGBA", (16, 16), (*RED, 128)).save(path)
    assert_colour(picture_of(path), (255, 127, 127))
    Image.new("LA", (16, 16), (0, 0)).save(path)
    assert_colour(picture_of(path), (255, 255, 255))


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    path = tmp_path / "sideways.jpg"
    image = Image.new("RGB", (64, 64), BLUE)
    image.paste(RED, (0, 0, 64, 32))  # the upper half, which becomes the right one when turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    pixels = picture_of(path)
    assert_colour(pixels[:, 9:], RED)
    assert_colour(pixels[:, :7], BLUE)


def test_the_middle_square_is_used(tmp_path):
    path = tmp_path / "wide.png"
    image = Image.new("RGB", (64, 16), RED)
    image.paste(GREEN, (24, 0, 40, 16))
    image.save(path)
    assert_colour(picture_of(path), GREEN)


def test_a_picture_that_claims_a_billion_pixels_is_refused_at_once(tmp_path):
    path = tmp_path / "bomb.png"
    png_of_one_bit(path, 40000, 30000)
    inside, content = tmp_path / "inside.ico", path.read_bytes()  # its directory claims 16x16
    inside.write_bytes(struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 1, len(content), 22) + content)
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for refused in (path, inside):
        with pytest.raises(UserError, match=rf"{refused.name}.*exceeds limit"):
            picture_of(refused)
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000  # kilobytes
    png_of_one_bit(path, 400, 300)
    assert_colour(picture_of(path), (255, 255, 255))
    png_of_one_bit(path, 12_000, 10_000)
    with pytest.raises(UserError, match=r"bomb.png.*12000x10000 pixels are too many"):
        picture_of(path)


# A folder


def spoil(folder):
    """Add five files that cannot be read; return their names."""
    good = sorted(folder.rglob("*.png"))[0]
    whole = good.read_bytes()
    (good.parent / "corrupt.png").write_bytes(whole[:60] + bytes(200) + whole[260:])
    (good.parent / "truncated.png").write_bytes(whole[: len(whole) // 2])
    Image.open(good).resize((300, 300)).save(good.parent / "cut.jpg")
    cut = (good.parent / "cut.jpg").read_bytes()
    (good.parent / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (good.parent / "empty.jpg").touch()
    (good.parent / "text.webp").write_text("not a picture")
    return ["corrupt.png", "truncated.png", "cut.jpg", "empty.jpg", "text.webp"]


def test_unreadable_files_are_named_and_counted_and_the_others_used(tiny_folder, capsys):
    folder = tiny_folder(count=3)
    names = spoil(folder)
    (folder / "left" / "notes.txt").write_text("not a picture by its name: not counted")
    (folder / "left" / ".hidden.png").touch()
    shutil.copytree(folder / "left", folder / ".thumbnails")
    data = datasets.load(str(folder), 16)
    output = capsys.readouterr()
    assert data.images.shape == (6, 16, 16, 3)
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert "left out 5 of 11 files" in output.out
    assert all(name in output.out for name in names)
    assert output.err == ""


@pytest.mark.parametrize("ending", ["avif", "blp", "dds", "gif", "ico", "jp2", "pcx", "ppm", "tga", "tiff", "webp"])
def test_no_damage_to_a_picture_prevents_reading_the_others(tiny_folder, ending):
    if f".{ending}" not in Image.registered_extensions():
        pytest.skip("this Pillow cannot write it")
    folder = tiny_folder(count=1, classes=())
    source = Image.open(folder / "000.png")
    path = folder / f"damaged.{ending}"
    (source.convert("P") if ending == "blp" else source).save(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for number in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        if number % 2:
            damaged = damaged[: random.integers(len(damaged))]
        else:
            damaged[random.integers(min(len(damaged), 200), size=3)] = random.integers(256, size=3)
        path.write_bytes(damaged.tobytes())
        assert len(datasets.load(str(folder), 16).images) in (1, 2)


def test_a_folder_of_unreadable_pictures_only(tiny_folder, refusal):
    folder = tiny_folder(count=1, classes=())
    (folder / "000.png").write_bytes(b"\x89PNG")
    assert "none of its 1 pictures can be read (000.png" in refusal("--data", folder)


def test_too_few_pictures_are_left(tiny_folder, tiny_flags, refusal, capsys):
    folder = tiny_folder(count=9)
    spoil(folder)
    line = refusal(*tiny_flags, "--data", folder, "--batch_size", 19)
    assert "--batch_size 19: " in line
    assert "holds only 18 pictures" in line
    assert not Path("outputs").exists()


def test_no_such_folder(refusal, tmp_path):
    assert "--data nowhere: there is no such folder" in refusal("--data", "nowhere")
    assert "--data ~nobody-here/x: there is no such user" in refusal("--data", "~nobody-here/x")
    assert "there is no such folder" in refusal("--data", "")
    assert "file name too long" in refusal("--data", "x" * 300)
    assert list(Path().iterdir()) == []


def test_a_file_instead_of_a_folder(refusal):
    Path("file.png").touch()
    assert "--data file.png: is a file" in refusal("--data", "file.png")


def test_a_folder_without_pictures(refusal, tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").touch()
    assert "no pictures in it" in refusal("--data", tmp_path / "empty")


def test_grey_pictures_have_one_channel_and_mixed_ones_three(tiny_folder):
    grey = tiny_folder(count=2, color=False, name="grey")
    assert datasets.load(str(grey), 16).channels == 1
    assert datasets.load(str(grey), 16, channels=3).channels == 3
    colour = tiny_folder(count=1, name="colour")
    Image.open(colour / "left" / "000.png").save(grey / "left" / "colour.png")
    assert datasets.load(str(grey), 16).channels == 3


def test_colours_become_grey_with_the_eyes_weights(tiny_folder):
    folder = tiny_folder(count=1)
    Image.new("RGB", (20, 20), GREEN).save(folder / "left" / "000.png")
    data = datasets.load(str(folder), 16, channels=1)
    assert data.images.shape == (2, 16, 16, 1)
    assert np.abs(data.images[0].astype(int) - 150).max() <= 1  # 0.587 * 255


def test_grey_is_kept_exactly(tmp_path):
    (tmp_path / "ramp").mkdir()
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "ramp" / "ramp.png")
    assert np.array_equal(datasets.load(str(tmp_path / "ramp"), 16).images[0, ..., 0], ramp)


def test_subfolders_are_classes_in_the_order_of_their_names(tiny_folder):
    folder = tiny_folder(count=2, classes=("zebra", "ape/young", "ape/old", "cat"))
    data = datasets.load(str(folder), 16)
    assert data.class_names == ("ape", "cat", "zebra")
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


def test_pictures_keep_the_paths_of_their_files(tiny_folder):
    folder = tiny_folder(count=2)
    assert datasets.load(str(folder), 16).files == ("left/000.png", "left/001.png", "right/000.png", "right/001.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_single_picture_is_read_as_in_a_folder(tiny_folder, channels):
    folder = tiny_folder(count=3, size=30)
    data = datasets.load(str(folder), 16, channels=channels)
    again = image_files.read_pictures([folder / file for file in data.files], 16, channels)
    assert np.array_equal(again, data.images)


def test_a_single_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path, words in (
        (tmp_path / "broken.png", "broken.png (not a picture)"),
        (tmp_path / "nowhere.png", "nowhere.png (no such file)"),
        (tmp_path, "(a folder; name the files in it)"),
        ("x" * 300, "(file name too long)"),
    ):
        with pytest.raises(UserError) as raised:
            image_files.read_pictures([path], 16, 1)
        assert words in str(raised.value)


def test_neither_one_subfolder_nor_loose_pictures_are_classes(tiny_folder):
    folder = tiny_folder(count=2, classes=("only",))
    assert datasets.load(str(folder), 16).class_names == ()
    folder = tiny_folder(count=2, name="loose")
    (folder / "left" / "000.png").rename(folder / "loose.png")
    data = datasets.load(str(folder), 16)
    assert data.class_names == ()
    assert data.labels.tolist() == [0, 0, 0, 0]


def test_conditional_needs_classes(tiny_folder, tiny_flags, refusal):
    folder = tiny_folder(classes=())
    line = refusal(*tiny_flags, "--data", folder, "--batch_size", 4, "--conditional")
    assert "has no classes; put each class into a folder of its own" in line


def test_values_whose_range_exceeds_single_precision():
    picture = Image.fromarray(np.array([[-3e38, 0, 3e38]], np.float32))
    with np.errstate(all="raise"):
        converted = pixel_ranges.eight_bits(picture, pixel_ranges.values_of(picture))
    assert np.asarray(converted).tolist() == [[0, 127, 255]]
