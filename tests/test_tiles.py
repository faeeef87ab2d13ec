"""Tiles cover a picture with weights that sum to one, and see its mirror image beyond the edge."""

import numpy as np
import pytest

from blocks import tiles


@pytest.mark.parametrize(("height", "width"), [(1, 700), (40, 60), (640, 641), (1300, 2000)])
@pytest.mark.parametrize("shift", [(0, 0), (16, 3), (7, 16)])
def test_the_weights_sum_to_one_everywhere(height, width, shift):
    total = np.zeros((height, width, 1), np.float32)
    for tile in tiles.cover(height, width, shift):
        ones = np.ones((len(tile.rows), len(tile.columns), 1), np.float32)
        assert max(ones.shape) <= tiles.LONGEST
        tile.add(ones, total)
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_do_not_grow_with_the_picture():
    lengths = {len(positions) for positions, _ in tiles._spans(6000, 5)}
    assert len(lengths) == 1
    assert lengths.pop() <= tiles.LONGEST


def test_tiles_see_the_mirror_image_beyond_the_edge():
    image = np.arange(12.0).reshape(3, 4, 1)
    (tile,) = tiles.cover(3, 4, (2, 1))
    cut = tile.cut(image)[..., 0]
    np.testing.assert_array_equal(cut[:5, 1], [4, 0, 0, 4, 8])
    np.testing.assert_array_equal(cut[2, :6], [0, 0, 1, 2, 3, 3])
