"""The data sets that `--data` names: MNIST, CIFAR-10, two that are bundled with scikit-learn, or a folder."""

import dataclasses
import functools
import hashlib
import operator
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common import downloads, image_files, memory, plain_pickle
from common.errors import UserError
from common.files import as_user_error, exists, read_npz
from common.progress import phase

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_BYTES = 11_490_434
MNIST_SHAPES = {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)}
DIGIT_NAMES = tuple("0123456789")
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR10_BYTES = 170_498_071
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
FEW_PICTURES = 1_000  # fewer are memorised by a GAN's discriminator
HELD_OUT = 10_000  # training pictures of MNIST and CIFAR-10, the last ones, on which settings are chosen
PATCHES = {"train": 6552, "test": 856}
SUBSTITUTES = {  # a data set's name and file; the data that replace it if it is unavailable, and their description
    "mnist": ("MNIST", "mnist.npz", "digits", "scikit-learn's digits of 8x8 pixels, enlarged and so blurred"),
    "cifar10": ("CIFAR-10", "cifar-10-python.tar.gz", "patches", "patches of scikit-learn's two photographs"),
}


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of pictures in memory.

    images: uint8 (N, height, width, channels), with 1 or 3 channels. labels: int32 (N,), all 0 without classes.
    class_names: by label; empty without classes. name: the data set's name or the folder, for people to read.
    files: the path of each picture within its folder; empty for a data set.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    files: tuple[str, ...] = ()

    unit, flag = "images", "--data"

    @property
    def extent(self) -> str:
        """The number of pictures, for people to read."""
        return f"{len(self.images):,} pictures"

    @property
    def description(self) -> dict:
        """The entry `data` of config.json."""
        return {
            "name": self.name,
            "pictures": len(self.images),
            "channels": self.channels,
            "class_names": self.class_names,
            "digest": self.digest,
        }

    @property
    def has_published_figures(self) -> bool:
        """Whether these are MNIST's test images at their own size, for which figures are published."""
        return self.name == "MNIST (test)" and self.images.shape[1:] == (28, 28, 1)

    def steps(self, config) -> int:
        """Return the number of batches in an epoch. Raises UserError if there are too few pictures for one."""
        if len(self.images) < config.batch_size:
            raise UserError(
                f"--batch_size {config.batch_size}: {self.name} holds only {len(self.images)} pictures; "
                f"give --batch_size {len(self.images)} or less, or more pictures"
            )
        return len(self.images) // config.batch_size

    def per_step(self, config) -> int:
        """Return the number of pictures in a batch."""
        return config.batch_size

    def batches(self, config, epoch: int, first: int, count: int, gather=operator.getitem) -> tuple:
        """Return `count` batches of `epoch`, which is shuffled, beginning with number `first`.

        Images are uint8 (count, batch, height, width, channels), labels int32 (count, batch).
        gather: takes an array and the indices of rows, and returns them.
        """
        order = _order(len(self.images), config.seed, epoch)
        chosen = order[first * config.batch_size : (first + count) * config.batch_size].reshape(count, -1)
        return gather(self.images, chosen), gather(self.labels, chosen)

    def class_count(self, config) -> int:
        """Return the number of classes that the networks are given: 0 without `--conditional`.

        Raises UserError if `--conditional` is set and there are no classes.
        """
        if config.conditional and not self.class_names:
            raise UserError(f"--conditional: {self.name} has no classes; {image_files.why_no_classes(self.files)}")
        return len(self.class_names) if config.conditional else 0

    def warn_if_few(self, remedies: Sequence[str] = ()) -> None:
        """Print a line if a discriminator would memorise these pictures; remedies: flags not given that delay it."""
        if len(self.images) < FEW_PICTURES:
            delay = f"add --{' and --'.join(remedies)} to delay that" if remedies else "stop when they do"
            print(
                f"{len(self.images):,} pictures are few: a discriminator memorises fewer than {FEW_PICTURES:,}, and "
                f"the samples then get worse; give more, or {delay}",
                flush=True,
            )

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.images.shape[-1]

    @functools.cached_property  # a run needs it several times
    def digest(self) -> str:
        """SHA-256 of pictures and labels."""
        with phase("computing the data's digest"):
            digest = hashlib.sha256(np.ascontiguousarray(self.images))
            digest.update(np.ascontiguousarray(self.labels))
            return digest.hexdigest()


@functools.lru_cache(maxsize=4)  # needed again for each batch of an epoch
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


@phase("reading the data")
def load(data: str, image_size: int, split: str = "train", channels: int = 0, full: str = "mnist") -> Images:
    """Return the pictures that `--data` names, as squares of `image_size` pixels.

    data: a data set's name, a folder, or "auto": the data set `full`, or small bundled data if it is unavailable.
    With ":fit" at its end, for choosing settings, "fit" and "validation" take the places of "train" and "test".
    split: "train" or "test", which a folder lacks; or "validation", the training pictures that are held out for choices
    (of MNIST and CIFAR-10 the last 10,000, of others every tenth), or "fit", the other training pictures.
    channels: 1 grey, 3 colour, 0 as the pictures are. full: "mnist" or "cifar10".
    Raises UserError if they cannot be found, downloaded or read.
    """
    if data.endswith(":fit"):
        data, split = data.removesuffix(":fit"), {"train": "fit", "test": "validation"}.get(split, split)
    source = "test" if split == "test" else "train"
    known = {"mnist": _mnist, "cifar10": _cifar10, "digits": _digits, "patches": lambda it: _patches(it, image_size)}
    if data == "auto":
        try:
            found = known[full](source)
        except NotDownloaded as error:
            name, file, small, description = SUBSTITUTES[full]
            print(f"{name} is not in {_cache()}, and {error}")
            print(f"continuing with {description}; to use {name}, put {file} into {_cache()}")
            found = known[small](source)
    elif data in known:
        found = known[data](source)
    elif source == "test":
        raise UserError(f"--data {data}: a folder has no test pictures; use mnist, cifar10, digits or patches")
    else:
        images, labels, class_names, files = image_files.read_folder(data, image_size, channels)
        found = Images(images, labels, class_names, str(Path(data)), files)
    found = found if split == source else _part(found, split)
    found = dataclasses.replace(found, images=image_files.convert(found.images, image_size, channels))
    print(f"data: {found.name}, {len(found.images):,} pictures of {image_size}x{image_size}", flush=True)
    return found


def _part(training: Images, split: str) -> Images:
    """Return the "validation" or the "fit" split of training pictures."""
    numbers = np.arange(len(training.images))
    if training.name in ("MNIST (train)", "CIFAR-10 (train)"):
        is_held_out = numbers >= len(numbers) - HELD_OUT
    else:
        is_held_out = numbers % 10 == 9  # the last tenth would be of a single class
    chosen = np.flatnonzero(is_held_out == (split == "validation"))
    name = f"{training.name.removesuffix(' (train)')} ({split})"
    files = tuple(training.files[number] for number in chosen) if training.files else ()
    return Images(training.images[chosen], training.labels[chosen], training.class_names, name, files)


class NotDownloaded(UserError):
    """A data set is not in Keras's cache and could not be downloaded."""


def _cache() -> Path:
    return downloads.keras_cache("datasets")


def _mnist(split: str) -> Images:
    path = _cache() / "mnist.npz"
    if not exists(path):
        path = _found_or_downloaded(MNIST_URL, path, MNIST_SHA256, MNIST_BYTES)
    advice = "move it away to download it again"
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {advice}") from None
    for name, shape in MNIST_SHAPES.items():
        if name not in arrays:
            raise UserError(f"{path}: {name} is missing; {advice}")
        if arrays[name].shape != shape or arrays[name].dtype != np.uint8:
            raise UserError(f"{path}: {name} is {arrays[name].dtype} {arrays[name].shape}, not uint8 {shape}; {advice}")
    labels = arrays[f"y_{split}"].astype(np.int32)
    return Images(arrays[f"x_{split}"][..., None], labels, DIGIT_NAMES, f"MNIST ({split})")


def _digits(split: str) -> Images:
    """Return scikit-learn's 1,797 digits of 8x8 pixels, enlarged to 28x28; the last 297 are the test split."""
    from sklearn.datasets import load_digits  # imported here because it takes a second

    bunch = load_digits()
    part = slice(None, 1500) if split == "train" else slice(1500, None)
    small = (bunch.images[part] * (255 / 16)).astype(np.uint8)
    # MNIST's digits lie in the central 20x20 pixels; with a similar margin the same network fits both.
    large = [ImageOps.expand(Image.fromarray(image).resize((22, 22), Image.BICUBIC), 3) for image in small]
    labels = bunch.target[part].astype(np.int32)
    return Images(np.stack(large)[..., None], labels, DIGIT_NAMES, f"scikit-learn's small digits ({split})")


def _cifar10(split: str) -> Images:
    folder = _cifar10_folder()
    advice = f"move {folder} away to download it again"
    rows, labels = [], []
    for name in CIFAR10_FILES[split]:
        path = folder / name
        try:
            batch = plain_pickle.load(path)
            rows.append(batch[b"data"])
            labels.append(np.asarray(batch[b"labels"], np.int32))
            if rows[-1].shape != (10000, 3072) or rows[-1].dtype != np.uint8 or labels[-1].shape != (10000,):
                raise ValueError(f"its data are {rows[-1].dtype} {rows[-1].shape}, not uint8 (10000, 3072)")
            if labels[-1].min() < 0 or labels[-1].max() > 9:
                raise ValueError("it has labels other than 0 to 9")
        except MemoryError:
            raise
        except Exception as error:  # a damaged batch can raise anything
            raise UserError(f"{path} is damaged ({str(error) or type(error).__name__}); {advice}") from None
    images = np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), np.concatenate(labels), CIFAR10_NAMES, f"CIFAR-10 ({split})")


def _cifar10_folder() -> Path:
    """Return the folder of CIFAR-10 in Keras's cache, at Keras's older place or its newer one.

    If it is at neither, it is downloaded to the older one.
    """
    places = [_cache() / "cifar-10-batches-py", _cache() / "cifar-10-batches-py-target" / "cifar-10-batches-py"]
    for place in places:
        if exists(place):
            return place
    downloaded = _cache() / "cifar-10-python.tar.gz"
    archive = _found_or_downloaded(CIFAR10_URL, downloaded, CIFAR10_SHA256, CIFAR10_BYTES)
    with as_user_error(places[0]), tempfile.TemporaryDirectory(dir=_cache()) as temporary:
        try:
            with tarfile.open(archive) as members:
                members.extractall(temporary, filter="data")  # writes nothing outside the folder
        except tarfile.TarError as error:
            raise UserError(f"{archive} cannot be unpacked ({error}); move it away to download it again") from None
        if not places[0].exists():  # unless another process was faster
            (Path(temporary) / places[0].name).rename(places[0])
    if archive == downloaded:
        archive.unlink(missing_ok=True)
    return places[0]


def _found_or_downloaded(url: str, path: Path, digest: str, size: int) -> Path:
    """Return the file in Keras's cache that has this digest, whatever its name; if there is none, download it."""
    if found := downloads.find(_cache(), digest, size):
        return found
    try:
        downloads.fetch(url, path, digest, size=size)
    except UserError as error:
        raise NotDownloaded(str(error)) from None
    return path


def _patches(split: str, image_size: int) -> Images:
    """Return squares cut from scikit-learn's two photographs at three scales; the right fifth is the test split."""
    from sklearn.datasets import load_sample_images  # imported here because it takes a second

    memory.check(3 * PATCHES[split] * image_size**2, "the patches")
    patches, labels = [], []
    for label, photograph in enumerate(load_sample_images().images):
        edge = photograph.shape[1] * 4 // 5
        photograph = Image.fromarray(photograph[:, :edge] if split == "train" else photograph[:, edge:])
        for side in (48, 72, 108):
            for top in range(0, photograph.height - side + 1, 12):
                for left in range(0, photograph.width - side + 1, 12):
                    box = (left, top, left + side, top + side)
                    patch = photograph.resize((image_size, image_size), Image.Resampling.BOX, box)
                    patches.append(np.asarray(patch))
                    labels.append(label)
    name = f"patches of scikit-learn's two photographs ({split})"
    return Images(np.stack(patches), np.array(labels, np.int32), ("temple", "flower"), name)
