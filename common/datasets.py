"""Pictures to train on: MNIST, the small digits in the box, or the user's own; found, checked, cut to size."""

import concurrent.futures
import dataclasses
import hashlib
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.progress import track

from common import downloads
from common.cli import UserError
from common.files import read_npz

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
MNIST_SHAPES = {"x_train": (60000, 28, 28), "y_train": (60000,), "x_test": (10000, 28, 28), "y_test": (10000,)}
DIGIT_NAMES = tuple("0123456789")
MOST_PIXELS = 100_000_000  # in one picture; larger ones are not opened
Image.MAX_IMAGE_PIXELS = None  # our own limit above takes its place, and names the file


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of pictures in memory.

    images: uint8 (N, height, width, channels), channels 1 or 3. labels: int32 (N,), all 0 without classes.
    class_names: by label; empty without classes. name: where they come from, for people to read.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.images.shape[-1]

    @property
    def digest(self) -> str:
        """SHA-256 of pictures and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()


def load(data: str, image_size: int, split: str = "train", channels: int = 0) -> Images:
    """Return the pictures that `--data` names, as squares of `image_size` pixels.

    data: "auto" (MNIST; the digits in the box if it cannot be had), "mnist", "digits", or a folder.
    split: "train" or "test"; a folder has no test split. channels: 1 grey, 3 colour, 0 as the pictures are.
    Raises UserError if they cannot be found, downloaded or read.
    """
    if data == "auto":
        try:
            found = _mnist(split)
        except NotDownloaded as error:
            print(f"MNIST is not in {_cache()}, and {error}")
            print(f"so this goes on with scikit-learn's small digits; put mnist.npz into {_cache()} for the real ones")
            found = _digits(split)
    elif data == "mnist":
        found = _mnist(split)
    elif data == "digits":
        found = _digits(split)
    else:
        found = _folder(data, image_size, channels)
    images = found.images
    if images.shape[1:3] != (image_size, image_size):
        images = np.stack(
            [
                np.asarray(Image.fromarray(image[..., 0]).resize((image_size, image_size), Image.BICUBIC))
                for image in images
            ]
        )[..., None]
    if channels == 3 and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    found = dataclasses.replace(found, images=images)
    print(f"data: {found.name}, {len(images):,} pictures of {image_size}x{image_size}", flush=True)
    return found


class NotDownloaded(UserError):
    """A dataset is neither in the cache nor to be had from its host."""


def _cache() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def _mnist(split: str) -> Images:
    path = _cache() / "mnist.npz"
    if not path.exists():
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


def _folder(data: str, image_size: int, channels: int) -> Images:
    """The user's own pictures; the folders directly in the folder `data` are classes if they hold all of them."""
    try:
        folder = Path(data).expanduser()
        exists, is_folder = bool(data) and folder.exists(), folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, the home of nobody
        raise UserError(f"--data {data}: {getattr(error, 'strerror', None) or error}") from None
    if not exists:
        raise UserError(f"--data {data}: there is no such folder")
    if not is_folder:
        raise UserError(f"--data {data}: is a file; give the folder that holds the pictures")
    endings = Image.registered_extensions()
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise UserError(f"--data {folder}: no pictures in it (such as .jpg, .png, .webp)")

    def read(path: Path):
        try:
            return read_picture(path, image_size)
        except UserError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = track(
            pool.map(read, paths),
            total=len(paths),
            description="reading pictures",
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        results = list(results)
    failures = [result for result in results if isinstance(result, str)]
    if failures:
        print(
            f"left out {len(failures)} of {len(paths)} files: "
            + "; ".join(failures[:5])
            + ("; …" if failures[5:] else "")
        )
    pairs = [(path, result) for path, result in zip(paths, results, strict=True) if not isinstance(result, str)]
    if not pairs:
        raise UserError(f"--data {folder}: none of its {len(paths)} pictures can be read ({failures[0]})")
    images = np.stack([picture for _, picture in pairs])
    if channels == 1 or (channels == 0 and (images == images[..., :1]).all()):
        images = np.stack([np.asarray(Image.fromarray(picture).convert("L")) for picture in images])[..., None]
    parts = [path.relative_to(folder).parts for path, _ in pairs]
    names = sorted({inner[0] for inner in parts})
    if len(names) < 2 or any(len(inner) < 2 for inner in parts):
        return Images(images, np.zeros(len(images), np.int32), (), str(folder))
    labels = np.array([names.index(inner[0]) for inner in parts], np.int32)
    return Images(images, labels, tuple(names), str(folder))


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
            if image.mode.startswith("I"):
                image = Image.fromarray((np.clip(np.asarray(image, np.int64), 0, 65535) // 257).astype(np.uint8))
            if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))
    except Exception as error:  # each of Pillow's readers has its own kinds for a damaged file
        what = "not a picture" if "cannot identify" in str(error) else str(error) or type(error).__name__
        raise UserError(f"{path.name} ({what})") from None
