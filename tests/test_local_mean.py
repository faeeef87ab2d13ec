"""Means of cells against TensorFlow's own, which has no GPU kernel."""

import numpy as np
import pytest
import tensorflow as tf

from blocks.local_mean import area_matrix, local_mean


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(640, 557, 10, 8), (30, 391, 1, 6), (7, 5, 3, 5)])
def test_the_mean_of_cells_is_that_of_tensorflow(height, width, rows, columns):
    values = tf.constant(np.random.default_rng(0).random((height, width), np.float32))
    expected = tf.image.resize(values[None, ..., None], (rows, columns), "area")[0, ..., 0]
    found = area_matrix(height, rows) @ values @ tf.transpose(area_matrix(width, columns))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_local_mean_has_the_shape_of_the_values_and_follows_them():
    values = np.repeat([[1.0, 3.0]], 64, axis=1).repeat(100, axis=0).astype(np.float32)
    means = local_mean(tf.constant(values), 64).numpy()
    assert means.shape == (100, 128)
    np.testing.assert_allclose(means[:, [0, 127]], [[1.0, 3.0]] * 100, rtol=1e-5)
    assert (np.diff(means[50]) >= -1e-6).all()
    np.testing.assert_allclose(local_mean(tf.fill((3, 5), 2.0), 64), 2.0, rtol=1e-6)  # smaller than a cell
