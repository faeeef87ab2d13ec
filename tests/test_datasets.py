"""The known data sets: bundled, in Keras's cache, damaged there, and converted to a size and to grey."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from common import datasets
from common.errors import UserError


def test_the_digest_depends_on_pictures_and_labels(tiny_folder):
    first = datasets.load(str(tiny_folder(count=2)), 16)
    again = datasets.load(str(tiny_folder(count=2)), 16)
    assert first.digest == again.digest
    labels, images = again.labels.copy(), again.images.copy()
    labels[0] += 1
    assert first.digest != dataclasses.replace(again, labels=labels).digest
    images[0, 0, 0, 0] ^= 1
    assert first.digest != dataclasses.replace(again, images=images).digest


# The bundled digits and MNIST


def test_the_bundled_digits():
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


def test_the_last_10_000_training_images_of_mnist_are_held_out_for_choices(cached_mnist):
    images = np.zeros((60000, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(60000) // 10000
    np.savez_compressed(cached_mnist, **mnist(x_train=images, x_test=np.full((10000, 28, 28), 9, np.uint8)))
    for data, split, name, count, numbers in (
        ("mnist", "fit", "MNIST (fit)", 50000, {0, 1, 2, 3, 4}),
        ("mnist:fit", "train", "MNIST (fit)", 50000, {0, 1, 2, 3, 4}),
        ("auto:fit", "validation", "MNIST (validation)", 10000, {5}),
        ("mnist:fit", "test", "MNIST (validation)", 10000, {5}),
        ("mnist", "test", "MNIST (test)", 10000, {9}),
    ):
        found = datasets.load(data, 28, split)
        assert (found.name, len(found.images), len(found.labels)) == (name, count, count)
        assert set(found.images[:, 0, 0, 0]) == numbers
        assert found.has_published_figures == (split == "test" and data == "mnist")


@pytest.mark.parametrize("data", ["digits", "patches", "a folder"])
def test_every_tenth_training_picture_of_others_is_held_out(tiny_folder, data):
    data = str(tiny_folder()) if data == "a folder" else data
    whole, fit, validation = (datasets.load(data, 12, split) for split in ("train", "fit", "validation"))
    assert np.array_equal(validation.images, whole.images[9::10])
    assert set(validation.labels) == set(whole.labels)
    assert len(fit.images) + len(validation.images) == len(whole.images) == len(fit.labels) + len(validation.labels)
    assert fit.digest == datasets.load(f"{data}:fit", 12).digest != whole.digest
    assert validation.files == whole.files[9::10]
    assert datasets.load(f"{data}:fit", 12, split="test").digest == validation.digest


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


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
def test_a_bad_mnist_in_the_cache_is_refused_and_left_alone(cached_mnist, refusal, contents, damage, words):
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
    for data in ("auto", "mnist"):
        line = refusal("--data", data)
        assert words in line
        assert str(cached_mnist) in line
    assert not Path("sprung").exists()
    assert contents(cached_mnist.parent) == before


# CIFAR-10 and the bundled patches


@pytest.fixture
def cached_cifar10(tmp_path):
    folder = tmp_path / "keras" / "datasets" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    return folder


def write_cifar10_test_batch(folder, protocol=2, **changes):
    """Write a batch as Python 2 did: of each picture the red plane, the green and the blue one, rows from the top."""
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


def test_cifar10_where_newer_versions_of_keras_put_it(cached_cifar10):
    newer = cached_cifar10.parent / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    newer.parent.mkdir()
    cached_cifar10.rename(newer)
    write_cifar10_test_batch(newer)
    assert len(datasets.load("cifar10", 32, split="test").images) == 10000


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({b"data": Trap()}, "which no data set needs"),
        ({b"labels": [Trap()] * 10000}, "which no data set needs"),
        ({b"data": np.zeros((10000, 3071), np.uint8)}, "its data are uint8 (10000, 3071), not uint8 (10000, 3072)"),
        ({b"data": np.zeros((10, 3072), np.float32)}, "not of integers"),
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
    with pytest.raises(UserError) as error:
        datasets.load("cifar10", 32, split="test")
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert not Path("sprung").exists()
    assert contents(cached_cifar10) == before


def test_the_bundled_patches():
    train, test = datasets.load("patches", 32), datasets.load("patches", 32, split="test")
    for part in (train, test):
        assert part.images.shape[1:] == (32, 32, 3)
        assert set(part.labels) == {0, 1}
        assert part.images.std() > 40
    assert len(train.images) > 5 * len(test.images) > 1000
    assert len(np.unique(train.images.reshape(len(train.images), -1), axis=0)) > 0.99 * len(train.images)


def test_a_data_set_is_converted_to_the_requested_size_and_colours(cached_cifar10):
    write_cifar10_test_batch(cached_cifar10)
    assert datasets.load("cifar10", 16, split="test").images.shape == (10000, 16, 16, 3)
    grey = datasets.load("cifar10", 32, split="test", channels=1).images
    assert grey.shape == (10000, 32, 32, 1)
    assert grey[0, 5, 9, 0] == round(0.299 * 200)
