"""A picture of any size, seen through overlapping tiles whose weights add up to one: no seams, bounded memory."""

import dataclasses
from collections.abc import Iterator

import numpy as np

LONGEST = 640  # pixels; a tile's longer side, at most
OVERLAP = 64  # pixels over which a tile fades into the next
SHIFT = 16  # pixels by which all tiles may be shifted; what lies beyond the picture's edge is its mirror image


@dataclasses.dataclass(frozen=True)
class Tile:
    """One tile: the picture's rows and columns that it sees, and their weights; 0 for those that are mirrored."""

    rows: np.ndarray
    columns: np.ndarray
    row_weights: np.ndarray
    column_weights: np.ndarray

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return what the tile sees of (height, width, channels)."""
        return image[self.rows[:, None], self.columns]

    def add(self, values: np.ndarray, total: np.ndarray) -> None:
        """Add the tile's values (rows, columns, channels), weighted, to those of the picture."""
        rows, columns = np.flatnonzero(self.row_weights), np.flatnonzero(self.column_weights)
        inner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        top, left = self.rows[rows[0]], self.columns[columns[0]]
        weights = self.row_weights[inner[0], None, None] * self.column_weights[inner[1], None]
        total[top : top + len(rows), left : left + len(columns)] += values[inner] * weights


def cover(height: int, width: int, shift: tuple[int, int]) -> Iterator[Tile]:
    """Yield tiles of equal size that cover a picture; each pixel's weights add up to 1.

    shift: how far up and to the left the first tile begins outside of the picture, 0 to SHIFT.
    """
    columns = list(_spans(width, shift[1]))
    for rows, row_weights in _spans(height, shift[0]):
        for those, column_weights in columns:
            yield Tile(rows, those, row_weights, column_weights)


def _spans(length: int, shift: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions and weights of the tiles along one axis."""
    total = length + SHIFT
    count = max(1, -(-(total - OVERLAP) // (LONGEST - OVERLAP)))
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
