"""A picture of any size, processed in overlapping tiles whose weights sum to one: no seams, bounded memory."""

import dataclasses
from collections.abc import Iterator

import numpy as np

LONGEST = 640  # pixels: the longer side of a tile, at most
OVERLAP = 64  # pixels over which a tile fades into the next
SHIFT = 16  # pixels by which the tiles may be shifted; beyond the picture's edge they see its mirror image


@dataclasses.dataclass(frozen=True)
class Tile:
    """One tile of a picture.

    rows, columns: the indices of the picture's rows and columns in the tile, mirrored beyond its edges.
    row_weights, column_weights: their weights, 0 for mirrored ones; a pixel's weight is the product of both.
    """

    rows: np.ndarray
    columns: np.ndarray
    row_weights: np.ndarray
    column_weights: np.ndarray

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the tile's part of an image (height, width, channels)."""
        return image[self.rows[:, None], self.columns]

    def add(self, values: np.ndarray, total: np.ndarray) -> None:
        """Add the tile's values (rows, columns, channels), times their weights, to its part of `total`, in place."""
        rows, columns = np.flatnonzero(self.row_weights), np.flatnonzero(self.column_weights)
        inner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        top, left = self.rows[rows[0]], self.columns[columns[0]]
        weights = self.row_weights[inner[0], None, None] * self.column_weights[inner[1], None]
        total[top : top + len(rows), left : left + len(columns)] += values[inner] * weights


def cover(height: int, width: int, shift: tuple[int, int]) -> Iterator[Tile]:
    """Yield tiles of equal size that cover a picture; the weights of each pixel sum to 1.

    shift: by how many pixels, 0 to SHIFT, the first tile starts above the picture and to the left of it.
    """
    column_spans = list(_spans(width, shift[1]))
    for rows, row_weights in _spans(height, shift[0]):
        for columns, column_weights in column_spans:
            yield Tile(rows, columns, row_weights, column_weights)


def _spans(length: int, shift: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions and the weights of the tiles along one axis."""
    total = length + SHIFT  # tiles have the same size for every shift
    count = max(1, -(-(total - OVERLAP) // (LONGEST - OVERLAP)))  # as few as possible; -(-a // b) rounds up
    size = -(-(total + (count - 1) * OVERLAP) // count)
    rise = (np.arange(OVERLAP, dtype=np.float32) + 0.5) / OVERLAP
    for number in range(count):
        positions = np.arange(size) + number * (size - OVERLAP) - shift
        weights = np.ones(size, np.float32)
        if number > 0:
            weights[:OVERLAP] = rise
        if number < count - 1:
            weights[-OVERLAP:] = rise[::-1]
        weights[(positions < 0) | (positions >= length)] = 0.0
        mirrored = positions % (2 * length)
        yield np.minimum(mirrored, 2 * length - 1 - mirrored), weights
