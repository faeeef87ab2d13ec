"""Photographs at full size: read upright, resized, and written with their alpha channel and colour profile."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from common import folders, picture_formats, pictures, pixel_ranges
from common.errors import UserError, reason_of
from common.files import as_user_error, atomic_write
from common.image_files import has_alpha
from common.progress import phase, progress

SHEET_WIDTH = 1280  # pixels of the before/after sheet, at most
FRAME_SIDE = 400  # pixels: the longer side of a GIF's frames, at most
MOST_FRAMES = 500  # of a GIF, which is made in memory: half a megabyte each


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A picture in memory, with everything that a changed copy of it must keep.

    pixels: uint8 (height, width, 3). alpha: uint8 (height, width), or None. icc_profile: the colour profile, None for
    sRGB. name: its origin, for messages.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    icc_profile: bytes | None
    name: str

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels)).hexdigest()

    @property
    def opaque(self) -> "Photograph":
        """The same photograph without its alpha channel."""
        return dataclasses.replace(self, alpha=None)


def bundled() -> Photograph:
    """Return scikit-learn's photograph of a temple: 427x640."""
    from sklearn.datasets import load_sample_image  # takes a second to import

    return Photograph(load_sample_image("china.jpg"), None, None, "scikit-learn's photograph of a temple")


def read(path: Path) -> Photograph:
    """Read a picture in one of `picture_formats.FORMATS`, upright, with its alpha channel and ICC profile.

    Of an animation it reads the first frame. Grey becomes RGB; CMYK and other colour spaces are converted to
    sRGB with their profile; more than 8 bits are scaled to 8, as one line says.
    Raises UserError, which names the file, if it is not a picture, damaged, or larger than 100 million pixels.
    """
    try:
        with phase(f"reading {path.name}"), picture_formats.open_picture(path) as image:
            profile = image.info.get("icc_profile")
            if pixel_ranges.is_deep(image):
                values = pixel_ranges.values_of(image)
                print(f"{path}: {values.description([path.name])}", flush=True)
                image = pixel_ranges.eight_bits(image, values)
            alpha, is_grey = None, image.mode in ("LA", "La", "L", "1")
            if has_alpha(image):
                image = image.convert("RGBA")
                alpha = np.asarray(image.getchannel("A"))
            if is_grey:
                image = image.convert("L")  # again: a profile of greys does not fit RGB
            if profile and image.mode not in ("RGB", "RGBA", "P"):
                image, profile = _to_srgb(image, profile), None
            return Photograph(np.asarray(image.convert("RGB")), alpha, profile or None, str(path))
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # each of Pillow's readers raises its own kinds for a damaged file
        raise UserError(f"{path}: {picture_formats.reason(error, path)}") from None


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert with the picture's own profile, or without it if it cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # OSError: the profile is unreadable
        return image.convert("RGB")


def working_copy(photograph: Photograph, max_size: int) -> np.ndarray:
    """Return the photograph, scaled down so that its longer side is at most `max_size`, unless that is 0.

    Returns float32 (height, width, 3) in [-1, 1].
    """
    height, width, _ = photograph.pixels.shape
    scale = min(1.0, max_size / max(height, width)) if max_size else 1.0
    image = _resize_pixels(photograph.pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return np.clip(image, -1.0, 1.0, out=image)  # the filter overshoots


def at_full_size(photograph: Photograph, image: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Return the photograph at full size, uint8, with the change from its working copy `image` to `changed` added.

    image, changed: float32 (height, width, 3) in [-1, 1], usually smaller than the photograph.
    """
    if changed.shape == photograph.pixels.shape:
        return pictures.from_signed(changed)
    height, width, _ = photograph.pixels.shape
    full, change = np.empty_like(photograph.pixels), changed - image
    for channel in range(3):  # floating-point copies of a large photograph would take gigabytes
        plane = pictures.to_signed_array(photograph.pixels[..., channel])
        plane += resize(change[..., channel : channel + 1], height, width)[..., 0]
        full[..., channel] = pictures.from_signed(plane)
    return full


def find(folder: Path) -> list[Path]:
    """Return the pictures directly in `folder`, sorted by name, with numbers in numerical order.

    Files that are not read are counted by kind. Raises UserError if there is no picture.
    """
    try:
        entries = [it for it in folder.iterdir() if not it.name.startswith(".") and not it.is_dir()]
    except OSError as error:
        raise UserError(f"{folder}: {reason_of(error)}") from None
    paths = picture_formats.sort_out(folders.natural_order(entries), str(folder))
    if not paths:
        raise UserError(f"{folder}: no pictures in it (such as .jpg, .png, .webp)")
    return paths


def resize(image: np.ndarray, height: int, width: int, box: tuple | None = None) -> np.ndarray:
    """Resize float32 (height, width, channels), or the part of it in `box`, with a Lanczos filter, which may overshoot.

    box: left, upper, right and lower edge in pixels, not necessarily whole ones.
    """
    if image.shape[:2] == (height, width) and box is None:
        return image
    resized = np.empty((height, width, image.shape[-1]), np.float32)
    for channel in range(image.shape[-1]):  # Pillow's floating-point images have one channel
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        resized[..., channel] = plane.resize((width, height), Image.Resampling.LANCZOS, box)
    return resized


def _resize_pixels(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale uint8 pixels (height, width, 3) to float32 in [-1, 1] and resize them, by channel to save memory."""
    resized = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        plane = pictures.to_signed_array(pixels[..., channel : channel + 1])
        resized[..., channel : channel + 1] = resize(plane, height, width)
    return resized


def blend(image: np.ndarray, other: np.ndarray, amount: float) -> np.ndarray:
    """Return the weighted mean of an image and another, which is resized to fit; both are float32 in [-1, 1].

    amount: the weight of the other, 0 to 1.
    """
    other = np.clip(resize(other, *image.shape[:2]), -1.0, 1.0)
    return (1.0 - amount) * image + amount * other


def read_signed(path: Path) -> np.ndarray:
    """Read a picture as float32 (height, width, 3) in [-1, 1]."""
    return pictures.to_signed_array(read(path).pixels)


def save_png(path: Path, pixels: np.ndarray, photograph: Photograph, settings: dict) -> None:
    """Write uint8 pixels (height, width, 3) with the photograph's alpha and profile, and with the settings as text.

    The folder is created if necessary.
    """
    image = Image.fromarray(pixels)
    if photograph.alpha is not None:
        image.putalpha(Image.fromarray(photograph.alpha))
    text = PngImagePlugin.PngInfo()
    for name, value in settings.items():
        value = value if isinstance(value, str) else json.dumps(value)
        text.add_itxt(name, value.encode("utf-8", "replace").decode())  # a file name need not be UTF-8
    with as_user_error(path):
        path.parent.mkdir(exist_ok=True)
    with phase(f"writing {path.name}"), atomic_write(path) as file:
        image.save(file, "PNG", pnginfo=text, icc_profile=photograph.icc_profile)


def save_before_after(path: Path, before: Photograph, after: np.ndarray) -> None:
    """Write a photograph and its changed copy, uint8 of the same size, side by side, or stacked if wider than 2:1."""
    height, width = before.pixels.shape[:2]
    axis = 0 if width > 2 * height else 1
    scale = min(1.0, SHEET_WIDTH / (width * (1 + axis)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    halves = [Image.fromarray(image).resize(size, Image.Resampling.LANCZOS) for image in (before.pixels, after)]
    sheet = np.concatenate([np.asarray(half) for half in halves], axis=axis)
    save_png(path, sheet, before.opaque, {})


def gif_frame(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return an image, float32 in [-1, 1], as a uint8 frame of the GIF of a picture of this size."""
    return pictures.from_signed(resize(image, *_frame_size(height, width)))


def _frame_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, FRAME_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def save_gif_of_files(path: Path, sources: list[Path], height: int, width: int) -> None:
    """Write pictures as a GIF, at this size or smaller, with black edges around those of another shape.

    Of more than 500, it shows 500, evenly chosen.
    """
    size = _frame_size(height, width)[::-1]
    chosen = pictures.evenly(sources, MOST_FRAMES)
    frames = []
    for source in progress(chosen, "reading the frames"):
        picture = Image.fromarray(read(source).pixels)
        frames.append(np.asarray(ImageOps.pad(picture, size, Image.Resampling.LANCZOS)))
    pictures.save_gif(path, frames)
