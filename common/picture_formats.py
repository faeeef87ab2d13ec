"""The formats in which pictures are read: recognised by their content, and decoded in a bounded amount of memory."""

import collections
import contextlib
import functools
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from common.folders import print_once
from common.progress import progress

# Raster formats that Pillow decodes itself. Left out are the readers that start a program (EPS: Ghostscript), hand the
# file to the system (WMF, EMF), open what it embeds by guessing (IPTC, McIdas), or only recognise it (BUFR, MPEG).
FORMATS = (
    *("AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR", "GIF", "ICNS", "ICO", "IM"),
    *("JPEG", "JPEG2000", "MSP", "PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP"),
    *("XBM", "XPM"),
)
MOST_PIXELS = 100_000_000  # in one picture, and in all that are decoded at a time; larger ones are not opened
Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow itself refuses twice this number, also of a picture inside an .ico
# Memory in pieces of 64 MiB goes back to the system when a picture is closed. Of Pillow's usual 16 MiB, the C library
# keeps those that other threads have used: 400 MB for a large picture in each thread.
Image.core.set_block_size(1 << 26)
DARK = 64  # of 255: what a colour picture of 14 bits within 16 does not exceed
HEIF_BRANDS = (b"hei", b"hev", b"mif1", b"msf1")  # beginnings of the brands in the first box of a HEIC file
RAW = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"}
VIDEO = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}
ADVICE = {  # what to do with files of a kind that is not read
    "HEIC": "convert them to JPEG, or pip install pillow-heif",
    "EPS or PDF": "convert them to PNG",
    "vector drawing": "convert them to PNG",
    "camera raw": "develop them to JPEG or PNG",
    "video": "extract their frames, with ffmpeg for example",
}


@functools.cache
def formats() -> tuple[str, ...]:
    """Return FORMATS, and HEIF if the package pillow-heif is installed; as many of them as this Pillow knows."""
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(it for it in (*FORMATS, "HEIF") if it in Image.OPEN)


@contextlib.contextmanager
def open_picture(path: Path, size: int = 0) -> Iterator[Image.Image]:
    """Open a picture, upright; with several threads, wait until the pictures being decoded leave room for it.

    size: the side that is needed; a JPEG is decoded at about that size, 0 for its own.
    Raises ValueError if it is no regular file or has too many pixels, and whatever Pillow's readers raise.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd metadata, from several threads
    if path.exists() and not path.is_file():
        raise ValueError(f"is a {'directory' if path.is_dir() else 'pipe or a device'}, not a picture file")
    with Image.open(path, formats=formats()) as image:
        if image.width * image.height > MOST_PIXELS:  # before anything is decompressed
            raise ValueError(f"{image.width}x{image.height} pixels are too many; at most {MOST_PIXELS:,}")
        with contextlib.suppress(Exception):  # a damaged second page does not matter
            if image.format == "TIFF" and image.n_frames > 1:
                print_once("a TIFF file has several pages: only the first page of each file is read")
        if size:
            image.draft("RGB", (size, size))
        is_deep_color = len(image.getbands()) > 1 and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        with _room.taken(image.width * image.height):
            if is_deep_color and max(high for _, high in image.getextrema()[:3]) < DARK:
                print_once(
                    f"{image.format} of 16-bit colour: only the upper 8 bits are read, which makes pictures of fewer "
                    "bits dark; scale them to 16 bits first"
                )
            ImageOps.exif_transpose(image, in_place=True)
            yield image


class _Room:
    """The pixels that may be decoded at a time, by all threads together."""

    def __init__(self):
        self.pixels, self.changed = 0, threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: self.pixels + pixels <= MOST_PIXELS)
            self.pixels += pixels
        try:
            yield
        finally:
            with self.changed:
                self.pixels -= pixels
                self.changed.notify_all()


_room = _Room()


def other_kind(path: Path) -> str:
    """Return the kind of a file that is not a picture which can be read, "" if it may be one.

    Files are known by their content. The name decides only where the content is of no known kind.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises an error for a link into a closed folder
        return "pipe, device or broken link"
    ending = path.suffix.lower()
    try:
        with path.open("rb") as file:
            start = _padded(file.read(64))
    except OSError:
        return ""  # the attempt to read it names the reason
    if kind := _kind_of_content(start, ending):
        return kind
    if _accepting(start):
        return ""
    kind = "video" if ending in VIDEO else "vector drawing" if ending in (".svg", ".wmf", ".emf") else ""
    return kind or ("" if ending in endings() else f"{ending} file" if ending else "file without an ending")


def _kind_of_content(start: bytes, ending: str) -> str:
    """Return the kind of a file of which Pillow would misjudge the content, "" for others."""
    box = start[8 : int.from_bytes(start[:4], "big")] if start[4:8] == b"ftyp" else b""
    brands = [box[place : place + 4] for place in (0, *range(8, len(box), 4))]
    if any(it.startswith(HEIF_BRANDS) for it in brands) and not any(it.startswith(b"avi") for it in brands):
        return "" if "HEIF" in formats() else "HEIC"
    if start.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF")):
        return "EPS or PDF"
    return "camera raw" if ending in RAW else ""  # most are TIFF files, of which Pillow reads a thumbnail


def _accepting(start: bytes) -> list[str]:
    """Return the formats whose files may start with these bytes."""
    accepts = {it: Image.OPEN[it][1] for it in formats()}
    return [it for it, accept in accepts.items() if accept and accept(start) is True]


def _recognised(path: Path) -> str:
    """Return the format that a file seems to have, "" for none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return next(iter(_accepting(_padded(file.read(64)))), "")
    return ""


def _padded(start: bytes) -> bytes:
    return start.ljust(16, b"\0")  # some of Pillow's checks fail on shorter ones


@functools.cache
def endings() -> frozenset[str]:
    """Return the endings of the names of pictures: .jpg, .png …"""
    known = {*formats(), "MPO"}  # the reader of JPEG opens an MPO, too
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in known)


def _plural(kind: str) -> str:
    return re.sub(r"\b(file|video|drawing|pipe|device|link)\b", r"\1s", kind)


def sort_out(paths: list[Path], place: str) -> list[Path]:
    """Return the files that may be pictures; one line counts the others by kind and says what to do with them."""
    kinds = [other_kind(path) for path in progress(paths, "looking at the files")]
    counts = collections.Counter(filter(None, kinds))
    parts = [
        (f"1 {kind}" if count == 1 else f"{count:,} {_plural(kind)}") + (f" ({ADVICE[kind]})" if kind in ADVICE else "")
        for kind, count in counts.items()
    ]
    if parts:
        print(f"{place}: not read: {', '.join(parts)}", flush=True)
    return [path for path, kind in zip(paths, kinds, strict=True) if not kind]


def reason(error: Exception, path: Path) -> str:
    """Return why a picture could not be read; each of Pillow's readers raises its own kinds of exceptions."""
    if "cannot identify" not in str(error):
        strerror = getattr(error, "strerror", None)
        return strerror.lower() if strerror else str(error) or type(error).__name__
    kind = other_kind(path)
    advice = f"; {ADVICE[kind].replace('their', 'its').replace('them', 'it')}" if kind in ADVICE else ""
    if advice:
        return f"not a picture that can be read but {kind}{advice}"
    recognised = "" if kind else _recognised(path)
    return f"damaged, or a kind of {recognised} that is not read; convert it to PNG" if recognised else "not a picture"
