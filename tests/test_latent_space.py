"""Latents that are drawn for people to look at, and the ways between them."""

import numpy as np
import pytest
from scipy import stats

from common import latent_space


def test_spherical_walk_is_straight_between_latents_of_one_direction():
    start, end = np.float32([[1.0, 2.0]]), np.float32([[3.0, 6.0]])
    walk = latent_space.spherical_walk(start, end, 4)
    np.testing.assert_allclose(walk[:, 0, 0], [1.0, 1.5, 2.0, 2.5], rtol=1e-6)
    opposite = latent_space.spherical_walk(np.float32([[1.0]]), np.float32([[-1.0]]), 4)
    np.testing.assert_allclose(opposite[:, 0, 0], [1.0, 0.5, 0.0, -0.5], atol=1e-6)


def test_spherical_walk_keeps_the_length():
    walk = latent_space.spherical_walk(np.float32([[3.0, 0.0]]), np.float32([[0.0, 3.0]]), 7)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=-1), 3.0, rtol=1e-6)


def test_walks_of_neighbouring_seeds_have_no_station_in_common():
    walks = [latent_space.round_trips(3, 5, seed)[::16] for seed in (0, 1)]  # (4, 3, 5) each: the stations
    assert not np.isin(walks[0], walks[1]).any()
    np.testing.assert_allclose(walks[0][0], latent_space.draw(3, 5, 0), rtol=1e-6)  # the walkers of --sample begin it


def test_plane_is_even_in_probability_and_begins_at_the_upper_left():
    latents = latent_space.plane(4)
    assert latents.shape == (16, 2)
    np.testing.assert_allclose(stats.norm.cdf(latents[:4, 0]), [0.125, 0.375, 0.625, 0.875], rtol=1e-5)
    assert (latents[:4, 1] == latents[0, 1]).all()
    assert latents[0, 1] > latents[-1, 1]


def test_axes_move_one_latent_at_a_time():
    latents = latent_space.axes(3, 5).reshape(3, 5, 3)
    for axis in range(3):
        np.testing.assert_allclose(latents[axis, :, axis], [-3, -1.5, 0, 1.5, 3])
        assert (np.delete(latents[axis], axis, axis=-1) == 0).all()


def test_codes_are_drawn_from_the_mixture():
    means = np.array([[0.0, 0.0], [10.0, -10.0]])
    covariances = np.array([[[1.0, 0.8], [0.8, 1.0]], [[4.0, 0.0], [0.0, 0.25]]])
    codes = latent_space.draw_from_mixture([0.25, 0.75], means, covariances, count=20_000, seed=0)
    assert codes.dtype == np.float32
    second = codes[:, 1] < -5  # six deviations from the one, and ten from the other
    assert second.mean() == pytest.approx(0.75, abs=0.01)
    for rows, mean, covariance in zip((codes[~second], codes[second]), means, covariances, strict=True):
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=0.06)
        np.testing.assert_allclose(np.cov(rows, rowvar=False), covariance, atol=0.12)


def test_a_mixture_of_a_single_code():
    mixture = latent_space.fit_mixture(np.array([[1.0, -2.0, 3.0]], np.float32), seed=0)
    codes = latent_space.draw_from_mixture(**mixture, count=100, seed=0)
    np.testing.assert_allclose(codes.mean(axis=0), [1.0, -2.0, 3.0], atol=0.02)
