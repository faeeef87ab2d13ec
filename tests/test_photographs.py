"""Photographs are read upright and in their colours, and written with everything that they came with."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from common import photographs
from common.errors import UserError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def picture():
    """A colourful picture of 40x60 pixels."""
    return Image.fromarray(photographs.bundled().pixels).resize((60, 40))


def read_saved(picture, kind, mode, **settings):
    """Save a picture in a format and a mode, and read it."""
    file = io.BytesIO()
    picture.convert(mode).save(file, kind, **settings)
    Path("saved").write_bytes(file.getvalue())
    return photographs.read(Path("saved"))


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("PNG", "P"), ("PNG", "I;16")]
)
def test_formats(kind, mode, picture):
    grey = np.asarray(picture.convert("L"))
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save("saved", "PNG")
        found = photographs.read(Path("saved"))
    else:
        found = read_saved(picture, kind, mode)
    assert found.alpha is None
    expected = np.stack([grey] * 3, axis=-1) if mode in ("L", "I;16") else np.asarray(picture)
    assert np.abs(found.pixels.astype(int) - expected).mean() < 16


def test_exif_turns_the_picture_upright(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_saved(picture, "JPEG", "RGB", exif=exif).pixels.shape == (60, 40, 3)


def test_a_grey_profile_is_dropped():
    lightness = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # any that does not fit RGB
    grey = np.random.default_rng(0).integers(0, 256, (20, 30, 2), np.uint8)
    found = read_saved(Image.fromarray(grey, "LA"), "PNG", "LA", icc_profile=lightness)
    assert found.icc_profile is None
    assert np.array_equal(found.alpha, grey[..., 1])
    assert np.array_equal(found.pixels, np.repeat(grey[..., :1], 3, axis=-1))


@pytest.mark.parametrize(("mode", "profile"), [("CMYK", SRGB), ("L", b"x" * 300), ("CMYK", b"x" * 300)])
def test_an_unsuitable_or_unreadable_profile_is_dropped(mode, profile, picture):
    assert read_saved(picture, "JPEG", mode, icc_profile=profile).icc_profile is None


def test_a_photograph_is_written_with_its_alpha_profile_and_settings(picture):
    alpha = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    photograph = photographs.Photograph(np.asarray(picture), alpha, SRGB, "a")
    settings = {"layers": "mixed0", "seed": 3, "image_path": os.fsdecode(b"caf\xe9.png")}  # not UTF-8
    photographs.save_png(Path("new/all.png"), photograph.pixels, photograph, settings)
    with Image.open("new/all.png") as image:
        assert np.array_equal(np.asarray(image), np.dstack([picture, alpha]))
        assert image.info["icc_profile"] == SRGB
        assert image.text == {"layers": "mixed0", "seed": "3", "image_path": "caf?.png"}
    photographs.save_before_after(Path("sheet.png"), photograph, photograph.pixels)
    with Image.open("sheet.png") as image:
        assert (image.mode, image.size, image.info["icc_profile"]) == ("RGB", (120, 40), SRGB)


def test_a_change_made_at_a_smaller_size_is_added_at_full_size(picture):
    photograph = photographs.Photograph(np.asarray(picture), None, None, "a")
    image = photographs.working_copy(photograph, 30)
    assert image.shape == (20, 30, 3)
    same = photographs.at_full_size(photograph, image, image)
    assert np.array_equal(same, photograph.pixels)
    brighter = photographs.at_full_size(photograph, image, image + 20 / 127.5)
    expected = np.minimum(photograph.pixels.astype(int) + 20, 255)
    assert np.abs(brighter - expected).max() <= 1
    np.testing.assert_allclose(
        photographs.blend(image, np.full_like(image, 0.5), 0.25), 0.75 * image + 0.125, atol=1e-6
    )


def test_a_gif_shows_each_picture_whole_and_has_a_limited_number_of_frames(monkeypatch):
    Image.new("RGB", (60, 40), "white").save("wide.png")
    Image.new("RGB", (40, 60), "white").save("high.png")
    monkeypatch.setattr(photographs, "MOST_FRAMES", 3)
    files = [Path("wide.png"), *[Path("high.png")] * 4]
    photographs.save_gif_of_files(Path("a.gif"), files, 40, 60)
    with Image.open("a.gif") as gif:
        assert gif.n_frames == 2  # three, of which the last two are equal
        gif.seek(1)
        lit = np.asarray(gif.convert("L")) > 128
    assert lit.shape == (40, 60)
    assert (lit.any(axis=0).sum(), lit.any(axis=1).sum()) == (27, 40)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


HUGE = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
HUGE += chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a picture at all", "bad.png: not a picture"),
        (b"", "bad.png: not a picture"),
        ("cut", "bad.png: "),
        (HUGE, "exceeds limit of 200000000 pixels"),
        (None, "bad.png: no such file or directory"),
    ],
)
def test_files_that_are_not_pictures(content, words, picture):
    path = Path("bad.png")
    if content == "cut":
        picture.save(path)
        content = path.read_bytes()[:800]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        photographs.read(path)


def test_folders_without_pictures():
    with pytest.raises(UserError, match="nowhere: no such file or directory"):
        photographs.find(Path("nowhere"))
    Path("text.txt").touch()
    Path(".hidden.png").touch()
    with pytest.raises(UserError, match="no pictures in it"):
        photographs.find(Path())
