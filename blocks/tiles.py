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
    needs the memory of a few tiles.
    shift: int32 (2,): by how many pixels, 0 to SHIFT, the first tile starts above the image and to the left of it.
    function: maps a tile (rows, columns, channels) to a tensor of this shape and a scalar.
    Returns the joined tensors (height, width, channels) and the mean of the scalars.
    """
    height, width, channels = tf.shape(image)[0], tf.shape(image)[1], image.shape[-1]
    pixels = tf.reshape(image, (-1, channels))
    (tile_rows, tall), (tile_columns, wide) = count_and_size(height), count_and_size(width)
    count = tile_rows * tile_columns

    def add_tile(index, joined, sum_of_scalars):
        rows = _part(height, tall, tile_rows, index // tile_columns, shift[0])
        columns = _part(width, wide, tile_columns, index % tile_columns, shift[1])
        result, scalar = function(tf.gather(pixels, rows.shown[:, None] * tf.cast(width, tf.int64) + columns.shown))
        values = result[rows.inner, columns.inner] * rows.weights[:, None, None] * columns.weights[:, None]
        joined = tf.raw_ops.TensorStridedSliceUpdate(  # in place
            input=joined,
            begin=[rows.place.start, columns.place.start],
            end=[rows.place.stop, columns.place.stop],
            strides=[1, 1],
            value=joined[rows.place, columns.place] + values,
        )
        return index + 1, joined, sum_of_scalars + scalar

    start = 0, tf.zeros((height, width, channels)), 0.0
    _, joined, sum_of_scalars = tf.while_loop(lambda index, *_: index < count, add_tile, start, parallel_iterations=1)
    return joined, sum_of_scalars / tf.cast(count, tf.float32)


def count_and_size(length) -> tuple:
    """Return the number of tiles along an axis of this length, and their size, which is the same for every shift."""
    total = length + SHIFT
    count = tf.maximum(-(-(total - OVERLAP) // (LONGEST - OVERLAP)), 1)  # as few as possible; -(-a // b) rounds up
    return count, -(-(total + (count - 1) * OVERLAP) // count)


class _Part(NamedTuple):
    """A tile along one axis.

    shown: the rows or columns of the image in it, mirrored beyond the image's edges, int64 (size,). inner: the part of
    the tile that lies within the image. place: where in the image that is. weights: of the inner part.
    """

    shown: tf.Tensor
    inner: slice
    place: slice
    weights: tf.Tensor


def _part(length, size, count, number, shift) -> _Part:
    begin = number * (size - OVERLAP) - shift
    mirrored = (begin + tf.range(size)) % (2 * length)
    place = slice(tf.maximum(begin, 0), tf.minimum(begin + size, length))
    inner = slice(place.start - begin, place.stop - begin)
    rise = tf.minimum((tf.cast(tf.range(size), tf.float32) + 0.5) / OVERLAP, 1.0)
    ones = tf.ones_like(rise)
    weights = tf.where(number > 0, rise, ones) * tf.where(number < count - 1, rise[::-1], ones)
    return _Part(tf.cast(tf.minimum(mirrored, 2 * length - 1 - mirrored), tf.int64), inner, place, weights[inner])
