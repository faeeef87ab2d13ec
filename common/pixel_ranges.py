"""Pictures with more than 8 bits a pixel: which of their values is black and which is white, and their 8-bit copies."""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
from PIL import Image

WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))  # what cameras, microscopes and scanners write
OVERSHOOT = 0.05  # of the range: how far a filter, such as Lanczos's, may have driven floating-point pixels beyond it
ROWS = 256  # converted at a time, to save memory


@dataclasses.dataclass(frozen=True)
class Values:
    """The values found in pictures of one kind.

    low, high: the least and the greatest finite one. unusable: the number of pixels that are NaN or infinite.
    """

    low: float
    high: float
    is_float: bool
    unusable: int = 0

    def __or__(self, other: "Values") -> "Values":
        return Values(
            min(self.low, other.low), max(self.high, other.high), self.is_float, self.unusable + other.unusable
        )

    @property
    def black_and_white(self) -> tuple[float, float]:
        """The values that become 0 and 255: 0 and the lowest usual white that no value exceeds, or low and high."""
        tolerance = OVERSHOOT if self.is_float else 0.0
        if self.is_float and self.low < -tolerance and max(-self.low, self.high) <= 1 + tolerance:
            return -1, 1
        whites = (1, *WHITES) if self.is_float else WHITES
        white = next((it for it in whites if self.high <= it * (1 + tolerance)), self.high)
        return (0, white) if self.low >= -tolerance * white else (self.low, self.high)

    def description(self, names: list[str]) -> str:
        """Return a line for people to read; names: of the pictures with unusable pixels."""
        black, white = self.black_and_white
        line = f"values {self.low:,.6g} to {self.high:,.6g}; {black:,.6g} becomes black, {white:,.6g} white"
        if self.unusable:
            line += f"; {self.unusable:,} pixels are NaN or infinite and become black, in {', '.join(names[:3])}"
            line += f" and {len(names) - 3:,} more" if names[3:] else ""
        return line


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has integer pixels of more than 8 bits, or floating-point ones."""
    return image.mode.startswith("I") or image.mode == "F"


def kind_of(image: Image.Image) -> str:
    """Return the kind of a picture that `is_deep`, for people to read: its format and its type of pixels."""
    depth = "floating-point" if image.mode == "F" else "16-bit" if "16" in image.mode else "32-bit"
    return f"{image.format} of {depth} pixels"


def values_of(image: Image.Image) -> Values:
    """Return the values in a picture that `is_deep`."""
    pixels = np.asarray(image)
    is_float = pixels.dtype.kind == "f"
    finite = pixels[np.isfinite(pixels)] if is_float else pixels
    if not finite.size:
        return Values(0.0, 0.0, is_float, pixels.size)
    return Values(finite.min().item(), finite.max().item(), is_float, pixels.size - finite.size)


def eight_bits(image: Image.Image, values: Values) -> Image.Image:
    """Return an 8-bit copy of a picture that `is_deep`; pixels that are NaN or infinite become black."""
    black, white = values.black_and_white
    pixels = np.asarray(image)
    result = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), ROWS):
        rows = pixels[top : top + ROWS]
        if values.is_float:
            rows = np.where(np.isfinite(rows), rows, np.float32(black))
            scale = np.float32(255 / ((white - black) or 1))
            result[top : top + ROWS] = np.clip((rows - np.float32(black)) * scale, 0, 255)
        else:
            rows = np.clip(rows.astype(np.int64), black, white) - black
            result[top : top + ROWS] = rows * 255 // ((white - black) or 1)
    return Image.fromarray(result)


def merged(found: Iterable[Values]) -> Values:
    """Return the values of several pictures together."""
    return functools.reduce(Values.__or__, found)
