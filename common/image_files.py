"""The user's own pictures: found in a folder, checked, turned upright and brought to one size."""

import concurrent.futures
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.cli import progress
from common.errors import UserError
from common.files import is_hidden

MOST_PIXELS = 100_000_000  # in one picture; larger ones are not opened
Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow itself refuses twice this number, also of a picture inside an .ico
FAULTS_SHOWN = 5


def read_folder(
    data: str, image_size: int, channels: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Read all pictures below the folder `data`, which may begin with ~; unreadable ones are counted and left out.

    channels: 0 to read grey pictures as grey; with 1 or 3 the caller converts.
    Returns the images, uint8 (N, image_size, image_size, 1 or 3); their labels, int32 (N,); the names of the classes,
    which are the subfolders if these hold all pictures; and the path of each picture within the folder.
    Raises UserError if there is no such folder, or no picture in it that can be read.
    """
    folder = _existing_folder(data)
    paths = _pictures_in(folder)
    if not paths:
        raise UserError(f"--data {folder}: no pictures in it (such as .jpg, .png, .webp)")
    images, faults = _read_all(paths, image_size)
    failures = list(filter(None, faults))
    if failures:
        shown = "; ".join(failures[:FAULTS_SHOWN]) + ("; …" if failures[FAULTS_SHOWN:] else "")
        print(f"left out {len(failures)} of {len(paths)} files: {shown}")
        paths = [path for path, fault in zip(paths, faults, strict=True) if not fault]
        images = images[[not fault for fault in faults]]
    if not paths:
        raise UserError(f"--data {folder}: none of its {len(faults)} pictures can be read ({failures[0]})")
    if channels == 0 and all((image == image[..., :1]).all() for image in images):
        images = np.ascontiguousarray(images[..., :1])
    within = [path.relative_to(folder).parts for path in paths]
    labels, class_names = _classes(within)
    return images, labels, class_names, tuple("/".join(parts) for parts in within)


def read_pictures(paths: Sequence[str | Path], image_size: int, channels: int) -> np.ndarray:
    """Read single pictures in the way of `read_folder`: uint8 (N, image_size, image_size, channels).

    channels: 1 or 3. Raises UserError for the first that cannot be read.
    """
    found = []
    for path in map(Path, paths):
        try:
            if not path.is_file():
                raise UserError(
                    f"{path} (a folder; name the files in it)" if path.is_dir() else f"{path} (no such file)"
                )
            found.append(read_picture(path, image_size))
        except (UserError, OSError) as error:  # OSError if the name is too long
            reason = error if isinstance(error, UserError) else f"{path} ({(error.strerror or str(error)).lower()})"
            raise UserError(f"cannot read {reason}") from None
    return convert(np.stack(found), image_size, channels)


def read_picture(path: Path, size: int) -> np.ndarray:
    """Read any picture upright, its middle square scaled to `size`: uint8 (size, size, 3).

    An animation gives its first frame; 16-bit grey is scaled to 8 bits; transparent parts become white.
    Raises UserError, which names the file, if it is damaged or too large.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd metadata, from several threads
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            image.draft("RGB", (size, size))  # decodes a JPEG at about the size that is needed
            image = ImageOps.exif_transpose(image)
            image = eight_bits(image)
            if has_alpha(image):
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))
    except Exception as error:  # a damaged file raises different exceptions in each of Pillow's readers
        what = "not a picture" if "cannot identify" in str(error) else str(error) or type(error).__name__
        raise UserError(f"{path.name} ({what})") from None


def convert(images: np.ndarray, image_size: int, channels: int) -> np.ndarray:
    """Resize uint8 images (N, height, width, 1 or 3), and give them 1 or 3 channels unless `channels` is 0."""
    if images.shape[1:3] != (image_size, image_size):
        size = (image_size, image_size)
        resized = np.empty((len(images), *size, images.shape[-1]), np.uint8)  # fails at once if memory is too small
        for image, target in zip(images, resized, strict=True):
            is_grey = image.shape[-1] == 1  # Pillow expects grey without an axis of channels
            picture = Image.fromarray(image[..., 0] if is_grey else image)
            target[:] = np.reshape(picture.resize(size, Image.BICUBIC), target.shape)
        images = resized
    if channels == 3 and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    if channels == 1 and images.shape[-1] == 3:
        images = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]
    return images


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, and floating point of 0 to 1 or 0 to 255, to 8 bits; other pictures stay as they are."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(image, np.int64), 0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        return Image.fromarray(np.clip(values * (255 if values.max() <= 1 else 1), 0, 255).astype(np.uint8))
    return image


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of a picture may be transparent."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _existing_folder(data: str) -> Path:
    try:
        folder = Path(data).expanduser()
        is_there, is_folder = bool(data) and folder.exists(), folder.is_dir()
    except (OSError, RuntimeError) as error:  # the name is too long; "~name" names no user
        raise UserError(f"--data {data}: {getattr(error, 'strerror', None) or error}") from None
    if not is_there:
        raise UserError(f"--data {data}: there is no such folder")
    if not is_folder:
        raise UserError(f"--data {data}: is a file; give the folder that holds the pictures")
    return folder


def _pictures_in(folder: Path) -> list[Path]:
    endings = Image.registered_extensions()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not is_hidden(path, folder) and path.is_file()
    )


def _read_all(paths: list[Path], image_size: int) -> tuple[np.ndarray, list[str]]:
    """Return all pictures (N, image_size, image_size, 3) and what is wrong with each, "" if nothing is."""
    images = np.empty((len(paths), image_size, image_size, 3), np.uint8)  # fails at once if memory is too small

    def read(number: int) -> str:
        try:
            images[number] = read_picture(paths[number], image_size)
        except UserError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return images, list(progress(pool.map(read, range(len(paths))), "reading pictures", len(paths)))


def _classes(within: list[tuple[str, ...]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels and class names; within: the parts of each picture's path within the folder."""
    names = sorted({parts[0] for parts in within})
    if len(names) < 2 or any(len(parts) < 2 for parts in within):
        return np.zeros(len(within), np.int32), ()
    return np.array([names.index(parts[0]) for parts in within], np.int32), tuple(names)
