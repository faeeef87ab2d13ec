"""The user's own pictures: found in a folder, checked, turned upright and brought to one size."""

import concurrent.futures
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common import folders, memory, picture_formats, pixel_ranges
from common.errors import UserError, printable, reason_of
from common.progress import progress

FAULTS_SHOWN = 5
CLASSES_SHOWN = 20
TRAINING_FOLDERS = ("train", "training")
OTHER_SPLITS = ("test", "testing", "val", "valid", "validation")


def read_folder(
    data: str, image_size: int, channels: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Read all pictures below the folder `data`; what is left out is named and counted.

    channels: 0 to read grey pictures as grey; with 1 or 3 the caller converts.
    Returns the images, uint8 (N, image_size, image_size, 1 or 3); their labels, int32 (N,); the names of the classes,
    which are the subfolders if these hold all pictures; and the path of each picture within the folder.
    If the subfolders are train/ and test/ or the like, only train/ is read.
    Raises UserError if there is no such folder, or no picture in it that can be read.
    """
    folder = _existing_folder(data)
    paths = picture_formats.sort_out(folders.files_below(folder), f"--data {folder}")
    paths = _of_training(paths, folder)
    if not paths:
        raise UserError(f"--data {folder}: no pictures in it (such as .jpg, .png, .webp)")
    images, faults = _read_all(paths, image_size)
    failures = list(filter(None, faults))
    if failures:
        shown = "; ".join(failures[:FAULTS_SHOWN]) + ("; …" if failures[FAULTS_SHOWN:] else "")
        print(printable(f"left out {len(failures)} of {len(paths)} files: {shown}"))
        kept = [number for number, fault in enumerate(faults) if not fault]
        paths, images = [paths[number] for number in kept], _compacted(images, kept)
    if not paths:
        raise UserError(f"--data {folder}: none of its {len(faults)} pictures can be read ({failures[0]})")
    if channels == 0 and all((image == image[..., :1]).all() for image in images):
        images = np.ascontiguousarray(images[..., :1])
    files = tuple(path.relative_to(folder).as_posix() for path in paths)
    labels, class_names = _classes(files)
    _print_tree(folder, files, labels, class_names)
    return images, labels, class_names, files


def read_pictures(paths: Sequence[str | Path], image_size: int, channels: int) -> np.ndarray:
    """Read single pictures in the way of `read_folder`: uint8 (N, image_size, image_size, channels).

    channels: 1 or 3. Raises UserError for the first that cannot be read.
    """
    paths = [Path(path) for path in paths]
    for path in paths:
        try:
            if not path.exists():
                raise UserError(f"cannot read {path} (no such file)")
            if path.is_dir():
                raise UserError(f"cannot read {path} (a folder; name the files in it)")
        except OSError as error:  # the name is too long
            raise UserError(f"cannot read {path} ({reason_of(error)})") from None
    images, faults = _read_all(paths, image_size)
    for fault in filter(None, faults):
        raise UserError(f"cannot read {fault}")
    return convert(images, image_size, channels)


def read_picture(
    path: Path, size: int, find_values: Callable[[Image.Image], pixel_ranges.Values] = pixel_ranges.values_of
) -> np.ndarray:
    """Read any picture upright, its middle square scaled to `size`: uint8 (size, size, 3).

    An animation gives its first frame; transparent parts become white. A picture of more than 8 bits is scaled to 8:
    find_values returns the range of values from which.
    Raises UserError, which names the file, if it is damaged or too large.
    """
    try:
        with picture_formats.open_picture(path, size) as image:
            return _square(image, size, find_values)  # a function, so that its large copies are gone when it returns
    except Exception as error:  # a damaged file raises different exceptions in each of Pillow's readers
        raise UserError(f"{path.name} ({picture_formats.reason(error, path)})") from None


def convert(images: np.ndarray, image_size: int, channels: int) -> np.ndarray:
    """Resize uint8 images (N, height, width, 1 or 3), and give them 1 or 3 channels unless `channels` is 0."""
    if images.shape[1:3] != (image_size, image_size):
        size = (image_size, image_size)
        memory.check(images.nbytes / math.prod(images.shape[1:3]) * image_size**2, "the pictures")
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


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of a picture may be transparent."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _existing_folder(data: str) -> Path:
    try:
        folder = Path(data)
        is_there, is_folder = bool(data) and folder.exists(), folder.is_dir()
    except OSError as error:  # the name is too long
        raise UserError(f"--data {data}: {reason_of(error)}") from None
    if not is_there:
        raise UserError(f"--data {data}: there is no such folder")
    if not is_folder:
        raise UserError(f"--data {data}: is a file; give the folder that holds the pictures")
    if run := folders.run_around(folder):
        raise UserError(f"--data {data}: is output of the run {run}; copy pictures out of it to train on them")
    return folder


def _of_training(paths: list[Path], folder: Path) -> list[Path]:
    """Return the pictures in train/ if the folders are train/ and others such as test/; otherwise all pictures."""
    tops = {parts[0] for parts in (path.relative_to(folder).parts for path in paths) if parts[1:]}
    training = [top for top in tops if top.lower() in TRAINING_FOLDERS]
    if len(training) != 1 or not all(top.lower() in TRAINING_FOLDERS + OTHER_SPLITS for top in tops):
        return paths
    kept = [path for path in paths if path.relative_to(folder).parts[0] == training[0]]
    others = [f"{top}/" for top in folders.natural_order(tops - set(training))]
    others += ["the pictures beside it"] if any(path.parent == folder for path in paths) else []
    if others:
        print(f"--data {folder}: reading {training[0]}/, leaving out {', '.join(others)}", flush=True)
    return kept


def _read_all(paths: list[Path], image_size: int) -> tuple[np.ndarray, list[str]]:
    """Return all pictures (N, image_size, image_size, 3) and what is wrong with each, "" if nothing is.

    Pictures of more than 8 bits are scaled alike if they have one format and type of pixels.
    """
    memory.check(3 * len(paths) * image_size**2, "the pictures")
    images = np.empty((len(paths), image_size, image_size, 3), np.uint8)  # fails at once if memory is too small
    deep = {}  # the kinds and the values of the pictures of more than 8 bits, by number

    def read(number: int) -> str:
        def find_values(image):
            values = pixel_ranges.values_of(image)
            deep[number] = pixel_ranges.kind_of(image), values
            return values

        try:
            images[number] = read_picture(paths[number], image_size, find_values)
        except UserError as error:
            deep.pop(number, None)
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            faults = list(progress(pool.map(read, range(len(paths))), "reading pictures", len(paths)))
        except BaseException:  # such as KeyboardInterrupt: do not wait for the pictures that are left
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for kind in sorted({kind for kind, _ in deep.values()}):
        found = {number: values for number, (its_kind, values) in sorted(deep.items()) if its_kind == kind}
        together = pixel_ranges.merged(found.values())
        unusable = [paths[number].name for number, values in found.items() if values.unusable]
        print(f"{len(found):,} {kind}: {together.description(unusable)}", flush=True)
        for number, values in found.items():
            if values.black_and_white != together.black_and_white:
                images[number] = read_picture(paths[number], image_size, lambda _, values=together: values)
    return images, faults


def _square(image: Image.Image, size: int, find_values: Callable[[Image.Image], pixel_ranges.Values]) -> np.ndarray:
    if pixel_ranges.is_deep(image):
        image = pixel_ranges.eight_bits(image, find_values(image))
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"  # scaled as grey, grey needs a quarter of the memory
    if has_alpha(image):
        image = _on_white(image, mode)
    elif image.mode != mode:
        image = image.convert(mode)
    square = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(square.convert("RGB"))


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Return a picture of this mode, "L" or "RGB": `image` in front of white."""
    result = Image.new(mode, image.size)
    for top in range(0, image.height, pixel_ranges.ROWS):
        rows = image.crop((0, top, image.width, min(top + pixel_ranges.ROWS, image.height))).convert("RGBA")
        white = Image.new("RGBA", rows.size, "white")
        result.paste(Image.alpha_composite(white, rows).convert(mode), (0, top))
    return result


def _compacted(images: np.ndarray, kept: list[int]) -> np.ndarray:
    """Move the images numbered `kept`, in ascending order, to the front of their array, and return these."""
    for target, number in enumerate(kept):
        if target != number:
            images[target] = images[number]
    return images[: len(kept)]


def _below_training(files: Sequence[str]) -> list[list[str]]:
    """Return the parts of paths, without a folder train/ that holds all of them."""
    within = [file.split("/") for file in files]
    tops = {parts[0] for parts in within if parts[1:]}
    is_inside = all(parts[1:] for parts in within) and len(tops) == 1 and min(tops).lower() in TRAINING_FOLDERS
    return [parts[1:] for parts in within] if is_inside else within


def _classes(files: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels and class names; files: the path of each picture within the folder."""
    within = _below_training(files)
    names = folders.natural_order({parts[0] for parts in within})
    if len(names) < 2 or any(len(parts) < 2 for parts in within):
        return np.zeros(len(within), np.int32), ()
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[parts[0]] for parts in within], np.int32), tuple(names)


def _folders_and_loose(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders that hold pictures, and the pictures that lie beside them; files: as for `why_no_classes`."""
    within = _below_training(files)
    tops = folders.natural_order({f"{parts[0]}/" for parts in within if parts[1:]})
    return tops, [parts[0] for parts in within if not parts[1:]]


def why_no_classes(files: Sequence[str]) -> str:
    """Return why pictures have no classes, and what to do; files: the path of each within its folder."""
    tops, loose = _folders_and_loose(files)
    shown = ", ".join(tops[:3]) + (" …" if tops[3:] else "")
    if tops and loose:
        others = f" and {len(loose) - 1:,} more pictures lie" if loose[1:] else " lies"
        return f"{loose[0]}{others} beside {shown}; move what belongs to no class elsewhere"
    if tops:
        return f"its pictures are all in {shown}; put each class into a folder of its own"
    return "put each class into a folder of its own"


def _print_tree(folder: Path, files: Sequence[str], labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Print the classes with their numbers of pictures; without classes, which pictures prevent them."""
    if not class_names:
        if all(_folders_and_loose(files)):
            print(printable(f"--data {folder}: no classes: {why_no_classes(files)}"), flush=True)
        return
    counts = np.bincount(labels, minlength=len(class_names))
    print(f"{folder}: {len(files):,} pictures in {len(class_names):,} classes")
    shown = list(map(printable, class_names[:CLASSES_SHOWN]))
    width = max(map(len, shown))
    for number, name in enumerate(shown):
        edge = "└──" if number == len(class_names) - 1 else "├──"
        print(f"{edge} {name:{width}} {counts[number]:9,}", flush=True)
    if class_names[CLASSES_SHOWN:]:
        print(f"└── … and {len(class_names) - CLASSES_SHOWN:,} more")
