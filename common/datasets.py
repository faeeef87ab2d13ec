"""Pictures to train on: MNIST, CIFAR-10, what is in the box, or the user's own; found, checked, cut to size."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import pickle
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common import downloads
from common.cli import UserError, progress
from common.files import exists, is_hidden, read_npz, told_in_one_line

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_SHAPES = {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)}
DIGIT_NAMES = tuple("0123456789")
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
MOST_PIXELS = 100_000_000  # in one picture; larger ones are not opened
Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow itself refuses twice as many, also within an .ico, as it opens a file


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of pictures in memory.

    images: uint8 (N, height, width, channels), channels 1 or 3. labels: int32 (N,), all 0 without classes.
    class_names: by label; empty without classes. name: where they come from, for people to read.
    files: of a folder's pictures, where in it they lie; else empty.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    files: tuple[str, ...] = ()

    unit, flag = "images", "--data"

    @property
    def extent(self) -> str:
        """How much there is, for people to read."""
        return f"{len(self.images):,} pictures"

    @property
    def description(self) -> dict:
        """What config.json keeps of them."""
        return {
            "name": self.name,
            "pictures": len(self.images),
            "channels": self.channels,
            "class_names": self.class_names,
            "digest": self.digest,
        }

    @property
    def is_mnist(self) -> bool:
        """Whether these are MNIST's images at their own size, for which figures are published."""
        return self.name.startswith("MNIST ") and self.images.shape[1:] == (28, 28, 1)

    def steps(self, config) -> int:
        """Return how many batches make an epoch. Raises UserError if there is not even one."""
        if len(self.images) < config.batch_size:
            raise UserError(
                f"{self.name} holds {len(self.images)} pictures, fewer than a batch: "
                f"--batch_size {config.batch_size} needs as many"
            )
        return len(self.images) // config.batch_size

    def per_step(self, config) -> int:
        """Return how many pictures a batch has."""
        return config.batch_size

    def batches(self, config, epoch: int, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images and labels of the batches of `epoch`, shuffled, from the `first` on, uint8 and int32."""
        order, size = np.random.default_rng([config.seed, epoch]).permutation(len(self.images)), config.batch_size
        for number in range(first, self.steps(config)):
            chosen = order[number * size : (number + 1) * size]
            yield self.images[chosen], self.labels[chosen]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.images.shape[-1]

    @functools.cached_property  # asked for several times in a run
    def digest(self) -> str:
        """SHA-256 of pictures and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()


def load(data: str, image_size: int, split: str = "train", channels: int = 0, full: str = "mnist") -> Images:
    """Return the pictures that `--data` names, as squares of `image_size` pixels.

    data: a dataset's name, a folder, or "auto": the dataset `full`, and if it cannot be had what is in the box.
    split: "train" or "test"; a folder has no test split. channels: 1 grey, 3 colour, 0 as the pictures are.
    full: "mnist" or "cifar10".
    Raises UserError if they cannot be found, downloaded or read.
    """
    known = {"mnist": _mnist, "cifar10": _cifar10, "digits": _digits, "patches": lambda it: _patches(it, image_size)}
    if data == "auto":
        name, file, small, what = {
            "mnist": ("MNIST", "mnist.npz", "digits", "scikit-learn's small digits"),
            "cifar10": ("CIFAR-10", "cifar-10-batches-py", "patches", "patches of scikit-learn's two photographs"),
        }[full]
        try:
            found = known[full](split)
        except NotDownloaded as error:
            print(f"{name} is not in {_cache()}, and {error}")
            print(f"so this goes on with {what}; put {file} into {_cache()} for the real ones")
            found = known[small](split)
    elif data in known:
        found = known[data](split)
    elif split == "test":
        raise UserError(
            f"--data {data}: has no test pictures, as no folder has; runs on mnist, cifar10, digits or patches can be "
            "measured"
        )
    else:
        found = _folder(data, image_size, channels)
    found = dataclasses.replace(found, images=_converted(found.images, image_size, channels))
    print(f"data: {found.name}, {len(found.images):,} pictures of {image_size}x{image_size}", flush=True)
    return found


def _converted(images: np.ndarray, image_size: int, channels: int) -> np.ndarray:
    """Give uint8 images (N, height, width, 1 or 3) this size and, unless 0, so many channels."""
    if images.shape[1:3] != (image_size, image_size):
        size = (image_size, image_size)
        resized = np.empty((len(images), *size, images.shape[-1]), np.uint8)  # fails at once if memory is too small
        for image, target in zip(images, resized, strict=True):
            grey = image.shape[-1] == 1  # which Pillow wants without channels
            target[:] = np.reshape(
                Image.fromarray(image[..., 0] if grey else image).resize(size, Image.BICUBIC), target.shape
            )
        images = resized
    if channels == 3 and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    if channels == 1 and images.shape[-1] == 3:
        images = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]
    return images


def binarize(data: Images, at_random: bool) -> Images:
    """Make pictures black and white: white from the middle on, or with a probability of the grey value / 255.

    The second is the static binarization of Salakhutdinov and Murray 2008, but for their own draw: here it is always
    this one.
    """
    levels = np.random.default_rng(0).integers(0, 255, data.images.shape, np.uint8) if at_random else 127
    return dataclasses.replace(data, images=np.where(data.images > levels, np.uint8(255), np.uint8(0)))


class NotDownloaded(UserError):
    """A dataset is neither in the cache nor to be had from its host."""


def _cache() -> Path:
    return downloads.keras_cache("datasets")


def _mnist(split: str) -> Images:
    path = _cache() / "mnist.npz"
    if not exists(path):
        try:
            downloads.fetch(MNIST_URL, path, MNIST_SHA256)
        except UserError as error:
            raise NotDownloaded(str(error)) from None
    advice = "move it away, and it is downloaded again"
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
    """scikit-learn's 1,797 digits of 8x8 pixels, enlarged to 28x28; the last 297 are the test split."""
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    part = slice(None, 1500) if split == "train" else slice(1500, None)
    small = (bunch.images[part] * (255 / 16)).astype(np.uint8)
    # MNIST has its digits in the middle 20x20 pixels; so the same network fits both.
    large = [ImageOps.expand(Image.fromarray(image).resize((22, 22), Image.BICUBIC), 3) for image in small]
    labels = bunch.target[part].astype(np.int32)
    return Images(np.stack(large)[..., None], labels, DIGIT_NAMES, f"scikit-learn's small digits ({split})")


def _cifar10(split: str) -> Images:
    folder = _cifar10_folder()
    advice = f"move {folder} away, and it is downloaded again"
    rows, labels = [], []
    for name in CIFAR10_FILES[split]:
        path = folder / name
        try:
            with path.open("rb") as file:
                batch = _PlainUnpickler(file, encoding="bytes").load()
            rows.append(batch[b"data"])
            labels.append(np.asarray(batch[b"labels"], np.int32))
            if rows[-1].shape != (10000, 3072) or rows[-1].dtype != np.uint8 or labels[-1].shape != (10000,):
                raise ValueError(f"its data are {rows[-1].dtype} {rows[-1].shape}, not uint8 (10000, 3072)")
            if labels[-1].min() < 0 or labels[-1].max() > 9:
                raise ValueError("it has labels other than 0 to 9")
        except MemoryError:
            raise
        except Exception as error:  # a damaged pickle can fail in any way
            raise UserError(f"{path} is damaged ({str(error) or type(error).__name__}); {advice}") from None
    images = np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), np.concatenate(labels), CIFAR10_NAMES, f"CIFAR-10 ({split})")


def _cifar10_folder() -> Path:
    """Where CIFAR-10 lies in Keras's cache: its older place or its newer one; downloaded into the older."""
    places = [_cache() / "cifar-10-batches-py", _cache() / "cifar-10-batches-py-target" / "cifar-10-batches-py"]
    for place in places:
        if exists(place):
            return place
    archive = _cache() / "cifar-10-python.tar.gz"
    try:
        downloads.fetch(CIFAR10_URL, archive, CIFAR10_SHA256)
    except UserError as error:
        raise NotDownloaded(str(error)) from None
    with told_in_one_line(places[0]), tempfile.TemporaryDirectory(dir=_cache()) as temporary:
        try:
            with tarfile.open(archive) as members:
                members.extractall(temporary, filter="data")  # which writes nothing outside of the folder
        except tarfile.TarError as error:
            raise UserError(
                f"{archive} cannot be unpacked ({error}); move it away, and it is downloaded again"
            ) from None
        if not places[0].exists():  # another process may have been faster
            (Path(temporary) / places[0].name).rename(places[0])
    archive.unlink(missing_ok=True)
    return places[0]


class _PlainUnpickler(pickle.Unpickler):
    """Reads arrays, lists, dictionaries, numbers and bytes; anything else that a pickle may hold is refused."""

    def find_class(self, module: str, name: str):
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which no dataset needs")


def _empty_array(kind: type, shape: tuple, code: bytes) -> np.ndarray:
    """Stand in for NumPy's function, which would make an array of whatever type it is given."""
    return np.ndarray((0,), np.uint8)


def _patches(split: str, image_size: int) -> Images:
    """Squares cut out of scikit-learn's two photographs at three scales; the test split from their right fifth."""
    from sklearn.datasets import load_sample_images  # takes a second to import

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


def _folder(data: str, image_size: int, channels: int) -> Images:
    """The user's own pictures; the folders directly in the folder `data` are classes if they hold all of them."""
    try:
        folder = Path(data).expanduser()
        is_there, is_folder = bool(data) and folder.exists(), folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, the home of nobody
        raise UserError(f"--data {data}: {getattr(error, 'strerror', None) or error}") from None
    if not is_there:
        raise UserError(f"--data {data}: there is no such folder")
    if not is_folder:
        raise UserError(f"--data {data}: is a file; give the folder that holds the pictures")
    endings = Image.registered_extensions()
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not is_hidden(path, folder) and path.is_file()
    )
    if not paths:
        raise UserError(f"--data {folder}: no pictures in it (such as .jpg, .png, .webp)")

    images = np.empty((len(paths), image_size, image_size, 3), np.uint8)  # fails at once if memory is too small

    def read(number: int) -> str:
        """Read a picture into its place; return what is wrong with it, or ""."""
        try:
            images[number] = read_picture(paths[number], image_size)
        except UserError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        faults = list(progress(pool.map(read, range(len(paths))), "reading pictures", len(paths)))
    failures = list(filter(None, faults))
    if failures:
        print(
            f"left out {len(failures)} of {len(paths)} files: "
            + "; ".join(failures[:5])
            + ("; …" if failures[5:] else "")
        )
        paths = [path for path, fault in zip(paths, faults, strict=True) if not fault]
        images = images[[not fault for fault in faults]]
    if not paths:
        raise UserError(f"--data {folder}: none of its {len(faults)} pictures can be read ({failures[0]})")
    if channels == 0 and all((image == image[..., :1]).all() for image in images):
        images = np.ascontiguousarray(images[..., :1])
    parts = [path.relative_to(folder).parts for path in paths]
    within = tuple("/".join(inner) for inner in parts)
    names = sorted({inner[0] for inner in parts})
    if len(names) < 2 or any(len(inner) < 2 for inner in parts):
        return Images(images, np.zeros(len(images), np.int32), (), str(folder), within)
    labels = np.array([names.index(inner[0]) for inner in parts], np.int32)
    return Images(images, labels, tuple(names), str(folder), within)


def read_pictures(paths: Sequence[str | Path], image_size: int, channels: int) -> np.ndarray:
    """Read single pictures as those of a folder are read: uint8 (N, image_size, image_size, channels).

    channels: 1 or 3. Raises UserError for the first that cannot be read.
    """
    found = []
    for path in map(Path, paths):
        try:
            if not path.is_file():
                raise UserError(
                    f"{path} (a folder; give the files in it)" if path.is_dir() else f"{path} (no such file)"
                )
            found.append(read_picture(path, image_size))
        except (UserError, OSError) as error:  # OSError of a name too long
            reason = error if isinstance(error, UserError) else f"{path} ({(error.strerror or str(error)).lower()})"
            raise UserError(f"cannot read {reason}") from None
    return _converted(np.stack(found), image_size, channels)


def read_picture(path: Path, size: int) -> np.ndarray:
    """Read any picture upright, its middle square scaled to `size`: uint8 (size, size, 3).

    Of an animation the first frame; 16-bit grey is scaled to 8 bits; transparent parts become white.
    Raises UserError, which names the file, if it is damaged or too large.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd metadata, from several threads
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            image.draft("RGB", (size, size))  # a JPEG is decoded at about the size that is needed
            image = ImageOps.exif_transpose(image)
            image = eight_bits(image)
            if has_alpha(image):
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))
    except Exception as error:  # each of Pillow's readers has its own kinds for a damaged file
        what = "not a picture" if "cannot identify" in str(error) else str(error) or type(error).__name__
        raise UserError(f"{path.name} ({what})") from None


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, and floating point of 0 to 1 or of 0 to 255, to 8 bits; other pictures stay as they are."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(image, np.int64), 0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        return Image.fromarray(np.clip(values * (255 if values.max() <= 1 else 1), 0, 255).astype(np.uint8))
    return image


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of a picture may be transparent."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
