"""Lossy compression: bits and quality of images stored as quantised codes, beside JPEG."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from common import cli

JPEG_QUALITIES = (1, 10, 20, 40, 60, 80, 90)


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of images in [0, 1], in dB: -10 log10 of the mean squared error."""
    return float(-10.0 * np.log10(np.mean((np.asarray(images) - others) ** 2)))


def code_curve(
    training_codes: np.ndarray, codes: np.ndarray, images: np.ndarray, decode: Callable, steps: Sequence[float]
) -> list[dict]:
    """Return the mean bits and the PSNR of images whose codes are quantised, for each step size.

    Each number of a code is replaced by the middle of its interval, from a multiple of the step to the next.

    training_codes: (N, code_size), from which the entropy coder takes its frequencies. codes: (M, code_size), those of
    the images, which are float32 (M, height, width, channels) in [0, 1]. decode: maps codes to images.
    """
    curve = []
    for step in cli.progress(steps, "compression"):
        training_levels, levels = (np.floor(it / step).astype(int) for it in (training_codes, codes))
        outputs = decode(((levels + 0.5) * step).astype(np.float32))
        curve.append({"step": step, "bits": coded_bits(training_levels, levels), "psnr": psnr(images, outputs)})
    return curve


def coded_bits(training: np.ndarray, test: np.ndarray) -> float:
    """Return the mean bits that an ideal arithmetic coder needs for a row of `test`, integers (M, size).

    It spends -log2 of a value's frequency, which it takes from the same column of `training`, integers (N, size). One
    is added to each count, so that no value is impossible; values outside the range of `training` are coded as the
    nearest inside.
    """
    bits = 0.0
    for known, coded in zip(training.T, test.T, strict=True):
        counts = np.bincount(known - known.min()) + 1
        bits += np.log2(counts.sum() / counts[np.clip(coded, known.min(), known.max()) - known.min()]).mean()
    return float(bits)


def jpeg_curve(images: np.ndarray) -> list[dict]:
    """Return the mean bits and the PSNR of uint8 images (N, height, width, channels) at each of JPEG_QUALITIES."""
    curve = []
    for quality in cli.progress(JPEG_QUALITIES, "JPEG"):
        outputs, bits = zip(*(through_jpeg(image, quality) for image in images), strict=True)
        outputs = np.stack(outputs) / np.float32(255)
        figures = {"bits": float(np.mean(bits)), "psnr": psnr(images / np.float32(255), outputs)}
        curve.append({"quality": quality, **figures})
    return curve


def through_jpeg(image: np.ndarray, quality: int) -> tuple[np.ndarray, int]:
    """Return an image, uint8 (height, width, channels), after JPEG compression, and the bits of its coefficients.

    quality: 1 to 95. The headers and tables of a JPEG file, 170 bytes or more, are not counted.
    """
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=quality, optimize=True)
    contents = file.getvalue()
    scan = contents.rindex(b"\xff\xda") + 2  # the marker "start of scan"; the scan's header holds its own length
    bits = 8 * (len(contents) - scan - int.from_bytes(contents[scan : scan + 2]) - 2)  # the last two bytes mark the end
    with Image.open(file, formats=["JPEG"]) as decoded:
        return np.asarray(decoded).reshape(image.shape), bits


def print_beside_jpeg(code: list[dict], jpeg: list[dict]) -> None:
    """Print a table of `code_curve` beside `jpeg_curve`: JPEG's PSNR at the same bits, its bits at the same PSNR."""
    print("compression, mean bits of an image and PSNR in dB, beside JPEG without its headers:")
    print("   code: bits     PSNR     JPEG: PSNR at the same bits   bits at the same PSNR")
    jpeg_bits, jpeg_psnr = ([row[name] for row in jpeg] for name in ("bits", "psnr"))
    for row in code:
        quality = _interpolated(row["bits"], jpeg_bits, jpeg_psnr, digits=1)
        bits = _interpolated(row["psnr"], jpeg_psnr, jpeg_bits, digits=0)
        print(f"  {row['bits']:11.0f} {row['psnr']:8.1f} {quality:>31} {bits:>23}")


def _interpolated(at: float, known: list[float], values: list[float], digits: int) -> str:
    """Return the value of a rising curve at `at`, as text; beyond an end of the curve, the end's value after < or >."""
    sign = "< " if at < known[0] else "> " if at > known[-1] else ""
    return f"{sign}{np.interp(at, known, values):.{digits}f}"
