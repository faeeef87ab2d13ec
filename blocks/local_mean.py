"""The mean of values in the neighbourhood of each pixel, from operations that run on GPUs, too."""

import tensorflow as tf


def local_mean(values, size: int):
    """Return smoothed values, float32 (height, width): means of cells of about `size` pixels, interpolated between.

    The cells divide the height and the width evenly; there is at least one.
    """
    shape = tf.shape(values)
    cells = tf.maximum(shape // size, 1)
    means = area_matrix(shape[0], cells[0]) @ values @ tf.transpose(area_matrix(shape[1], cells[1]))
    return tf.image.resize(means[..., None], shape)[..., 0]


def area_matrix(length, cells):
    """Return the matrix, float32 (cells, length), whose product with `length` values is the mean of each cell.

    The cells have equal lengths, and a value that two of them share counts in both by its parts. The product of a
    picture with one such matrix from the left and one from the right equals `tf.image.resize(…, "area")`, for which
    TensorFlow has no GPU kernel.
    """
    size = tf.cast(length / cells, tf.float32)
    edges = tf.cast(tf.range(cells + 1), tf.float32)[:, None] * size
    before_edge = tf.clip_by_value(edges - tf.cast(tf.range(length), tf.float32), 0.0, 1.0)  # the part of each value
    return (before_edge[1:] - before_edge[:-1]) / size
