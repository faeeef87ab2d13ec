"""Pictures with more than 8 bits a pixel: which of their values is black and which is white, and their 8-bit copies."""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
from PIL import Image

WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))  # what cameras, microscopes and scanners write
OVERSHOOT = 0.05  # of the range: how far a filter, such as Lanczos's, may have driven floating-point pixels beyond it
NO_DATA = 3.4e38  # floating-point pixels beyond it, plus or minus, stand for "no data" in maps
ROWS = 256  # converted at a time, to save memory
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF files
WHITE_IS_ZERO, UNSIGNED = 0, 1  # values of the last two


@dataclasses.dataclass(frozen=True)
class Values:
    """The values found in pictures of one kind.

    low, high: the least and the greatest usable one. unusable: the number of pixels that are NaN, infinite or beyond
    NO_DATA. is_negative: whether low values are bright.
    """

    low: float
    high: float
    is_float: bool
    unusable: int = 0
    is_negative: bool = False

    def __or__(self, other: "Values") -> "Values":
        low, high, unusable = min(self.low, other.low), max(self.high, other.high), self.unusable + other.unusable
        return dataclasses.replace(self, low=low, high=high, unusable=unusable)

    @property
    def black_and_white(self) -> tuple[float, float]:
        """The values that become 0 and 255: 0 and the lowest usual white that no value exceeds, or low and high.

        With `is_negative` they become 255 and 0.
        """
        tolerance = OVERSHOOT if self.is_float else 0.0
        if self.is_float and self.low < -tolerance and max(-self.low, self.high) <= 1 + tolerance:
            return -1, 1
        whites = (1, *WHITES) if self.is_float else WHITES
        white = next((it for it in whites if self.high <= it * (1 + tolerance)), self.high)
        return (0, white) if self.low >= -tolerance * white else (self.low, self.high)

    def description(self, names: list[str]) -> str:
        """Return a line for people to read; names: of the pictures with unusable pixels."""
        black, white = self.black_and_white[:: -1 if self.is_negative else 1]
        line = f"values {self.low:,.6g} to {self.high:,.6g}; {black:,.6g} becomes black, {white:,.6g} white"
        if self.unusable:
            line += f"; {self.unusable:,} pixels are NaN, infinite or beyond {NO_DATA:g} and become black, in "
            line += ", ".join(names[:3])
            line += f" and {len(names) - 3:,} more" if names[3:] else ""
        return line


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has integer pixels of more than 8 bits, or floating-point ones."""
    return image.mode.startswith("I") or image.mode == "F"


def kind_of(image: Image.Image) -> str:
    """Return the kind of a picture that `is_deep`, for people to read: its format and its type of pixels."""
    depth = "floating-point" if image.mode == "F" else "16-bit" if "16" in image.mode else "32-bit"
    return f"{image.format} of {depth} pixels{' whose zero is white' if _is_negative(image) else ''}"


def values_of(image: Image.Image) -> Values:
    """Return the values in a picture that `is_deep`."""
    pixels = _pixels(image)
    is_float = pixels.dtype.kind == "f"
    usable = pixels[_is_usable(pixels)] if is_float else pixels
    is_negative = _is_negative(image)
    if not usable.size:
        return Values(0.0, 0.0, is_float, pixels.size, is_negative)
    return Values(usable.min().item(), usable.max().item(), is_float, pixels.size - usable.size, is_negative)


def _is_usable(pixels: np.ndarray) -> np.ndarray:
    return (pixels > -NO_DATA) & (pixels < NO_DATA)  # False for NaN


def _is_negative(image: Image.Image) -> bool:
    return _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO


def _pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of a picture that `is_deep`; Pillow reads unsigned integers of 32 bits as signed ones."""
    pixels = np.asarray(image)
    is_unsigned = (
        pixels.dtype == np.int32 and _tag(image, BITS) == 32 and _tag(image, SAMPLE_FORMAT) in (None, UNSIGNED)
    )
    return pixels.view(np.uint32) if is_unsigned else pixels


def _tag(image: Image.Image, number: int) -> int | None:
    """Return the first value of a tag of a TIFF file; None without it, and for other files."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def eight_bits(image: Image.Image, values: Values) -> Image.Image:
    """Return an 8-bit copy of a picture that `is_deep`; pixels that are not usable become black."""
    black, white = values.black_and_white
    pixels = _pixels(image)
    result = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), ROWS):
        rows = pixels[top : top + ROWS]
        if values.is_float:
            rows = np.where(_is_usable(rows), rows, np.float32(white if values.is_negative else black))
            if float(white) - float(black) > float(np.finfo(np.float32).max):
                rows, black, white = rows.astype(np.float64), float(black), float(white)
            number = rows.dtype.type
            scale = number(255 / ((white - black) or 1))
            result[top : top + ROWS] = np.clip((rows - number(black)) * scale, 0, 255)
        else:
            rows = np.clip(rows.astype(np.int64), black, white) - black
            result[top : top + ROWS] = rows * 255 // ((white - black) or 1)
    return Image.fromarray(255 - result if values.is_negative else result)


def merged(found: Iterable[Values]) -> Values:
    """Return the values of several pictures together."""
    return functools.reduce(Values.__or__, found)
