import dataclasses
import pickle
import resource
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import cli, datasets

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture_of(path, size=16):
    return datasets.read_picture(path, size)


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
def test_of_an_animation_the_first_frame(tmp_path, ending):
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


def test_alpha_lets_white_through(tmp_path):
    path = tmp_path / "alpha.png"
    Image.new("RGBA", (16, 16), (*RED, 128)).save(path)
    assert_colour(picture_of(path), (255, 127, 127))
    Image.new("LA", (16, 16), (0, 0)).save(path)
    assert_colour(picture_of(path), (255, 255, 255))


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    path = tmp_path / "sideways.jpg"
    image = Image.new("RGB", (64, 64), BLUE)
    image.paste(RED, (0, 0, 64, 32))  # the upper half, which turned clockwise is the right one
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    pixels = picture_of(path)
    assert_colour(pixels[:, 9:], RED)
    assert_colour(pixels[:, :7], BLUE)


def test_the_middle_square_is_taken(tmp_path):
    path = tmp_path / "wide.png"
    image = Image.new("RGB", (64, 16), RED)
    image.paste(GREEN, (24, 0, 40, 16))
    image.save(path)
    assert_colour(picture_of(path), GREEN)


def test_a_picture_that_claims_a_billion_pixels_is_refused_at_once(tmp_path):
    path = tmp_path / "bomb.png"
    png_of_one_bit(path, 40000, 30000)
    inside, content = tmp_path / "inside.ico", path.read_bytes()  # whose directory says 16x16
    inside.write_bytes(struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 1, len(content), 22) + content)
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for refused in (path, inside):
        with pytest.raises(cli.UserError, match=rf"{refused.name}.*exceeds limit"):
            picture_of(refused)
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000  # kilobytes
    png_of_one_bit(path, 400, 300)
    assert_colour(picture_of(path), (255, 255, 255))
    png_of_one_bit(path, 12_000, 10_000)
    with pytest.raises(cli.UserError, match=r"bomb.png.*12000x10000 pixels are too many"):
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
    (folder / "left" / "notes.txt").write_text("no picture by its name: not counted")
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
def test_no_damage_to_a_picture_can_stop_the_reading_of_the_others(tiny_folder, ending):
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


def test_none_can_be_read(tiny_folder, refusal):
    folder = tiny_folder(count=1, classes=())
    (folder / "000.png").write_bytes(b"\x89PNG")
    assert "none of its 1 pictures can be read (000.png" in refusal("--data", folder)


def test_too_few_pictures_are_left(tiny_folder, tiny_flags, refusal, capsys):
    folder = tiny_folder(count=9)
    spoil(folder)
    line = refusal(*tiny_flags, "--data", folder, "--batch_size", 19)
    assert "holds 18 pictures, fewer than a batch: --batch_size 19" in line
    assert not Path("outputs").exists()


def test_no_such_folder(refusal, tmp_path):
    assert "--data nowhere: there is no such folder" in refusal("--data", "nowhere")
    assert "--data ~nobody-here/x: " in refusal("--data", "~nobody-here/x")
    assert "there is no such folder" in refusal("--data", "")
    assert "File name too long" in refusal("--data", "x" * 300)
    assert list(Path().iterdir()) == []


def test_a_file_in_place_of_a_folder(refusal):
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


def test_asked_for_grey_colour_pictures_are_weighted_as_the_eye_does(tiny_folder):
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


def test_pictures_of_a_folder_keep_the_names_of_their_files(tiny_folder):
    folder = tiny_folder(count=2)
    assert datasets.load(str(folder), 16).files == ("left/000.png", "left/001.png", "right/000.png", "right/001.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_single_picture_is_read_as_in_a_folder(tiny_folder, channels):
    folder = tiny_folder(count=3, size=30)
    data = datasets.load(str(folder), 16, channels=channels)
    again = datasets.read_pictures([folder / file for file in data.files], 16, channels)
    assert np.array_equal(again, data.images)


def test_a_single_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path, words in (
        (tmp_path / "broken.png", "broken.png (not a picture)"),
        (tmp_path / "nowhere.png", "nowhere.png (no such file)"),
        (tmp_path, "(a folder; give the files in it)"),
        ("x" * 300, "(file name too long)"),
    ):
        with pytest.raises(cli.UserError) as told:
            datasets.read_pictures([path], 16, 1)
        assert words in str(told.value)


def test_one_subfolder_or_loose_pictures_are_no_classes(tiny_folder):
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


def test_the_digest_tells_pictures_and_labels_apart(tiny_folder):
    first = datasets.load(str(tiny_folder(count=2)), 16)
    again = datasets.load(str(tiny_folder(count=2)), 16)
    assert first.digest == again.digest
    labels, images = again.labels.copy(), again.images.copy()
    labels[0] += 1
    assert first.digest != dataclasses.replace(again, labels=labels).digest
    images[0, 0, 0, 0] ^= 1
    assert first.digest != dataclasses.replace(again, images=images).digest


# The small digits and MNIST


def test_the_digits_in_the_box():
    train, test = datasets.load("digits", 28), datasets.load("digits", 28, split="test")
    assert train.images.shape == (1500, 28, 28, 1)
    assert test.images.shape == (297, 28, 28, 1)
    assert train.images.dtype == np.uint8
    assert set(train.labels) == set(test.labels) == set(range(10))
    assert (train.images[:, :3] == 0).all()  # an empty border
    assert train.images.max() == 255
    assert datasets.load("digits", 12, channels=3).images.shape == (1500, 12, 12, 3)


@pytest.fixture
def cached_mnist(tmp_path):
    path = tmp_path / "keras" / "datasets" / "mnist.npz"
    path.parent.mkdir(parents=True)
    return path


def mnist(**changes):
    arrays = {name: np.zeros(shape, np.uint8) for name, shape in datasets.MNIST_SHAPES.items()}
    return {**arrays, **changes}


def test_mnist_in_the_cache_is_used(cached_mnist, capsys):
    labels = np.arange(60000, dtype=np.uint8) % 10
    np.savez_compressed(cached_mnist, **mnist(y_train=labels, x_train=np.full((60000, 28, 28), 7, np.uint8)))
    for data in ("auto", "mnist"):
        found = datasets.load(data, 28)
        assert found.images.shape == (60000, 28, 28, 1)
        assert (found.images == 7).all()
        assert np.array_equal(found.labels, labels)
    assert datasets.load("mnist", 28, split="test").images.shape == (10000, 28, 28, 1)


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("data", ["auto", "mnist"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncated", "is damaged"),
        ("flipped", "is damaged"),
        ("empty", "is damaged"),
        ("pickle", "is damaged (Object arrays cannot be loaded"),
        ("bare pickle", "is damaged"),
        ("a folder", "is damaged"),
        ("one array", "is damaged"),
        ("shape", "x_train is uint8 (60000, 28, 27), not uint8 (60000, 28, 28)"),
        ("type", "y_test is float64 (10000,), not uint8 (10000,)"),
        ("missing", "y_train is missing"),
    ],
)
def test_a_bad_mnist_in_the_cache_is_refused_and_left_alone(cached_mnist, refusal, contents, data, damage, words):
    np.savez_compressed(cached_mnist, **mnist())
    whole = cached_mnist.read_bytes()
    if damage == "truncated":
        cached_mnist.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        middle = len(whole) // 4
        cached_mnist.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif damage == "empty":
        cached_mnist.write_bytes(b"")
    elif damage == "pickle":
        np.savez(cached_mnist, **mnist(y_train=np.array([Trap()], dtype=object)))
    elif damage == "bare pickle":
        with cached_mnist.open("wb") as file:
            np.array([Trap()], dtype=object).dump(file)
    elif damage == "a folder":
        cached_mnist.unlink()
        cached_mnist.mkdir()
    elif damage == "one array":
        with cached_mnist.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "shape":
        np.savez_compressed(cached_mnist, **mnist(x_train=np.zeros((60000, 28, 27), np.uint8)))
    elif damage == "type":
        np.savez_compressed(cached_mnist, **mnist(y_test=np.zeros(10000)))
    elif damage == "missing":
        np.savez_compressed(cached_mnist, **{name: array for name, array in mnist().items() if name != "y_train"})
    before = contents(cached_mnist.parent)
    line = refusal("--data", data)
    assert words in line
    assert str(cached_mnist) in line
    assert not Path("sprung").exists()
    assert contents(cached_mnist.parent) == before


# CIFAR-10 and the patches in its place


@pytest.fixture
def cached_cifar10(tmp_path):
    folder = tmp_path / "keras" / "datasets" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    return folder


def write_cifar10_test_batch(folder, protocol=2, **changes):
    """As Python 2 wrote it: a picture's red plane before its green and its blue one, rows from top to bottom."""
    planes = np.zeros((10000, 3, 32, 32), np.uint8)
    planes[:, 0, 5, 9] = 200
    planes[:, 2, 31, 0] = 100
    batch = {b"data": planes.reshape(10000, 3072), b"labels": [number % 10 for number in range(10000)]}
    (folder / "test_batch").write_bytes(pickle.dumps({**batch, **changes}, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_in_the_cache_is_read(cached_cifar10, protocol):
    write_cifar10_test_batch(cached_cifar10, protocol)
    found = datasets.load("cifar10", 32, split="test")
    assert found.images.shape == (10000, 32, 32, 3)
    assert found.images[77, 5, 9].tolist() == [200, 0, 0]
    assert found.images[77, 31, 0].tolist() == [0, 0, 100]
    assert found.images.astype(int).sum() == 10000 * 300
    assert found.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert found.class_names[found.labels[5]] == "dog"


def test_cifar10_where_newer_versions_of_keras_lay_it(cached_cifar10):
    newer = cached_cifar10.parent / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    newer.parent.mkdir()
    cached_cifar10.rename(newer)
    write_cifar10_test_batch(newer)
    assert len(datasets.load("cifar10", 32, split="test").images) == 10000


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({b"data": Trap()}, "which no dataset needs"),
        ({b"labels": [Trap()] * 10000}, "which no dataset needs"),
        ({b"data": np.zeros((10000, 3071), np.uint8)}, "its data are uint8 (10000, 3071), not uint8 (10000, 3072)"),
        ({b"data": np.zeros((10000, 3072))}, "its data are float64"),
        ({b"labels": [10] * 10000}, "labels other than 0 to 9"),
        ({b"labels": [1]}, "is damaged"),
        ("truncated", "is damaged"),
        ("missing", "is damaged"),
    ],
)
def test_a_bad_cifar10_in_the_cache_is_refused(cached_cifar10, contents, damage, words):
    write_cifar10_test_batch(cached_cifar10)
    path = cached_cifar10 / "test_batch"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "missing":
        path.unlink()
    else:
        batch = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps({**batch, **damage}, protocol=2))
    before = contents(cached_cifar10)
    with pytest.raises(cli.UserError) as error:
        datasets.load("cifar10", 32, split="test")
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert not Path("sprung").exists()
    assert contents(cached_cifar10) == before


def test_the_patches_in_the_box():
    train, test = datasets.load("patches", 32), datasets.load("patches", 32, split="test")
    for part in (train, test):
        assert part.images.shape[1:] == (32, 32, 3)
        assert set(part.labels) == {0, 1}
        assert part.images.std() > 40
    assert len(train.images) > 5 * len(test.images) > 1000
    assert len(np.unique(train.images.reshape(len(train.images), -1), axis=0)) > 0.99 * len(train.images)


def test_a_dataset_is_given_the_size_and_the_colours_that_are_asked_for(cached_cifar10):
    write_cifar10_test_batch(cached_cifar10)
    assert datasets.load("cifar10", 16, split="test").images.shape == (10000, 16, 16, 3)
    grey = datasets.load("cifar10", 32, split="test", channels=1).images
    assert grey.shape == (10000, 32, 32, 1)
    assert grey[0, 5, 9, 0] == round(0.299 * 200)


def test_binarized_pictures_are_white_as_often_as_they_are_bright():
    grey = np.random.default_rng(1).integers(0, 256, (200, 8, 8, 1), np.uint8)
    data = datasets.Images(grey, np.zeros(200, np.int32), (), "made")
    np.testing.assert_array_equal(datasets.binarize(data, at_random=False).images, np.where(grey >= 128, 255, 0))
    drawn = datasets.binarize(data, at_random=True).images
    np.testing.assert_array_equal(drawn, datasets.binarize(data, at_random=True).images)
    assert set(np.unique(drawn)) == {0, 255}
    for level in range(4):
        chosen = grey // 64 == level
        assert drawn[chosen].mean() == pytest.approx(grey[chosen].mean(), abs=8)
    assert (drawn[grey == 0] == 0).all()
    assert (drawn[grey == 255] == 255).all()
