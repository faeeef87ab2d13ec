"""Tiles cover a picture with weights that sum to one, and see its mirror image beyond the edge."""

import numpy as np
import pytest
import tensorflow as tf

from blocks import tiles


def process(image, shift, function):
    joined, mean = tiles.process(tf.constant(image, tf.float32), tf.constant(shift), function)
    return joined.numpy(), float(mean)


@pytest.mark.parametrize(("height", "width"), [(1, 700), (40, 60), (640, 641), (1300, 2000)])
@pytest.mark.parametrize("shift", [(0, 0), (16, 3), (7, 16)])
def test_what_each_tile_leaves_as_it_is_stays_the_same(height, width, shift):
    image, sizes = np.random.default_rng(0).random((height, width, 1), np.float32), []

    def unchanged(tile):
        sizes.append(tile.shape[:2])
        return tile, tf.cast(len(sizes), tf.float32)

    joined, mean = process(image, shift, unchanged)
    np.testing.assert_allclose(joined, image, atol=1e-6)
    assert mean == pytest.approx((1 + len(sizes)) / 2)
    assert len(set(sizes)) == 1
    assert max(sizes[0]) <= tiles.LONGEST


def test_tiles_do_not_grow_with_the_picture():
    assert tiles.count_and_size(6000)[1] <= tiles.LONGEST


def test_tiles_see_the_mirror_image_beyond_the_edge():
    cuts = []
    process(np.arange(12.0).reshape(3, 4, 1), (2, 1), lambda tile: (cuts.append(tile[..., 0].numpy()) or tile, 0.0))
    np.testing.assert_array_equal(cuts[0][:5, 1], [4, 0, 0, 4, 8])
    np.testing.assert_array_equal(cuts[0][2, :6], [0, 0, 1, 2, 3, 3])


def test_results_fade_from_a_tile_to_the_next():
    numbers = iter(range(2))
    joined, _ = process(np.zeros((30, 800, 1)), (0, 0), lambda tile: (tf.fill(tile.shape, float(next(numbers))), 0.0))
    begin = (800 + tiles.SHIFT + tiles.OVERLAP) // 2 - tiles.OVERLAP  # of the second of two tiles
    fading = (np.arange(tiles.OVERLAP) + 0.5) / tiles.OVERLAP
    np.testing.assert_allclose(joined[7, begin : begin + tiles.OVERLAP, 0], fading, rtol=1e-6)
    assert (joined[:, :begin] == 0).all()
    assert (joined[:, begin + tiles.OVERLAP :] == 1).all()
