"""A picture of any size, processed in overlapping tiles whose weights sum to one: no seams, bounded memory."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

LONGEST = 640  # pixels: the longer side of a tile, at most
OVERLAP = 64  # pixels over which a tile fades into the next
SHIFT = 16  # pixels by which the tiles may be shifted; beyond the picture's edge they see its mirror image


def process(image, shift, function: Callable) -> tuple:
    """Apply a function to the tiles of an image, float32 (height, width, channels), and join the results.

    It takes one tile after the other, and all of it stays on the image's device. Besides the image and the result it
    needs the memory of one more image.
    shift: int32 (2,): by how many pixels, 0 to SHIFT, the first tile starts above the image and to the left of it.
    function: maps a tile (rows, columns, channels) to a tensor of this shape and a scalar.
    Returns the joined tensors (height, width, channels) and the mean of the scalars.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    rows, columns = _tiles_along(height, shift[0]), _tiles_along(width, shift[1])
    count = rows.count * columns.count

    def add_tile(index, joined, sum_of_scalars):
        row, column = index // columns.count, index % columns.count
        (top, bottom), (left, right) = rows.span(row), columns.span(column)
        tile = tf.gather(tf.gather(image, rows.positions[top:bottom]), columns.positions[left:right], axis=1)
        result, scalar = function(tile)
        weights = rows.weights(row)[:, None, None] * columns.weights(column)[:, None]
        joined = tf.raw_ops.TensorStridedSliceUpdate(  # in place
            input=joined,
            begin=[top, left],
            end=[bottom, right],
            strides=[1, 1],
            value=joined[top:bottom, left:right] + result * weights,
        )
        return index + 1, joined, sum_of_scalars + scalar

    start = 0, tf.zeros((tf.size(rows.positions), tf.size(columns.positions), image.shape[-1])), 0.0
    _, joined, sum_of_scalars = tf.while_loop(lambda index, *_: index < count, add_tile, start, parallel_iterations=1)
    inner = joined[shift[0] : shift[0] + height, shift[1] : shift[1] + width]
    return inner, sum_of_scalars / tf.cast(count, tf.float32)


class _Tiles(NamedTuple):
    """The tiles along one axis: their number, and their size in pixels, which is the same for all.

    positions: the rows or columns of the image that they cover together, mirrored beyond its edges.
    """

    count: tf.Tensor
    size: tf.Tensor
    positions: tf.Tensor

    def span(self, number):
        """Return where the positions of a tile begin and end."""
        begin = number * (self.size - OVERLAP)
        return begin, begin + self.size

    def weights(self, number):
        """Return the weights of a tile's positions (size,), which fall towards the tiles beside it."""
        distances = tf.cast(tf.range(self.size), tf.float32) + 0.5  # from the beginning of the tile
        rise = tf.minimum(distances / OVERLAP, 1.0)
        one = tf.ones_like(rise)
        return tf.where(number > 0, rise, one) * tf.where(number < self.count - 1, rise[::-1], one)


def _tiles_along(length, shift) -> _Tiles:
    total = length + SHIFT  # tiles have the same size for every shift
    count = tf.maximum(-(-(total - OVERLAP) // (LONGEST - OVERLAP)), 1)  # as few as possible; -(-a // b) rounds up
    size = -(-(total + (count - 1) * OVERLAP) // count)
    mirrored = (tf.range(count * (size - OVERLAP) + OVERLAP) - shift) % (2 * length)
    return _Tiles(count, size, tf.minimum(mirrored, 2 * length - 1 - mirrored))
