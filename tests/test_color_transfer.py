"""Colour transfer gives a picture the mean and the covariance of another one's colours."""

import numpy as np

from blocks.color_transfer import match_colors


def test_the_colours_get_the_mean_and_the_covariance_of_the_reference():
    random = np.random.default_rng(0)
    image, reference = random.random((30, 40, 3)), random.random((20, 20, 3)) @ random.random((3, 3))
    changed = match_colors(image, reference).reshape(-1, 3)
    np.testing.assert_allclose(changed.mean(axis=0), reference.reshape(-1, 3).mean(axis=0))
    np.testing.assert_allclose(np.cov(changed, rowvar=False), np.cov(reference.reshape(-1, 3), rowvar=False), atol=1e-9)
    np.testing.assert_allclose(match_colors(image, image), image)
