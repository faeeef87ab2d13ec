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


def test_one_pixel_and_one_colour():
    random = np.random.default_rng(0)
    colour, pixel = np.full((5, 6, 3), [0.25, 0.5, -0.5]), np.array([[[0.1, 0.2, 0.3]]], np.float32)
    many = random.random((5, 6, 3))
    np.testing.assert_allclose(match_colors(pixel, colour), [[[0.25, 0.5, -0.5]]], atol=1e-6)
    np.testing.assert_allclose(match_colors(colour, colour), colour, atol=1e-9)
    np.testing.assert_allclose(match_colors(many, pixel).mean(axis=(0, 1)), pixel[0, 0], atol=1e-6)
    np.testing.assert_allclose(match_colors(many, pixel).std(axis=(0, 1)), 0, atol=2e-3)
    np.testing.assert_allclose(match_colors(colour, many).mean(axis=(0, 1)), many.mean(axis=(0, 1)))
