"""Latents drawn for pictures, and the walks between them."""

import numpy as np
import pytest
from scipy import stats

from common import latent_space


def test_slerp_is_straight_between_latents_of_one_direction():
    start, end = np.float32([[1.0, 2.0]]), np.float32([[3.0, 6.0]])
    walk = latent_space.slerp(start, end, 4)
    np.testing.assert_allclose(walk[:, 0, 0], [1.0, 1.5, 2.0, 2.5], rtol=1e-6)
    opposite = latent_space.slerp(np.float32([[1.0]]), np.float32([[-1.0]]), 4)
    np.testing.assert_allclose(opposite[:, 0, 0], [1.0, 0.5, 0.0, -0.5], atol=1e-6)


def test_slerp_keeps_the_norm_and_even_steps():
    start, end = np.array([[2.0, 0, 0], [0, 1, 0]]), np.array([[0, 2.0, 0], [0, 0, 1]])
    walk = latent_space.slerp(start, end, 4)
    assert walk.shape == (4, 2, 3)
    np.testing.assert_allclose(walk[0], start)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=-1), [[2, 1]] * 4, rtol=1e-6)
    angles = np.arctan2(walk[:, 0, 1], walk[:, 0, 0])
    np.testing.assert_allclose(angles, np.arange(4) * np.pi / 8, atol=1e-6)


def test_lerp_is_a_straight_line_without_its_end():
    walk = latent_space.lerp(np.float32([[0.0, 4.0]]), np.float32([[4.0, 0.0]]), 4)
    np.testing.assert_allclose(walk[:, 0], [[0, 4], [1, 3], [2, 2], [3, 1]])


def test_a_round_trip_visits_its_stations_and_returns_to_the_first():
    stations = latent_space.draw(4 * 3, 5, seed=0).reshape(4, 3, 5)
    walk = latent_space.round_trip(stations, latent_space.lerp)
    assert walk.shape == (64, 3, 5)
    np.testing.assert_array_equal(walk[::16], stations)
    np.testing.assert_allclose(walk[-1], stations[3] / 16 + stations[0] * 15 / 16, atol=1e-6)


def test_draws_of_neighbouring_seeds_have_nothing_in_common():
    assert not np.isin(latent_space.draw(12, 5, 0), latent_space.draw(12, 5, 1)).any()


@pytest.mark.parametrize("latent_dim", [1, 3, 32])
def test_latents_drawn_in_parts_are_those_drawn_at_once(latent_dim):
    parts = list(latent_space.draw_in_parts(1101, latent_dim, 5, 500))
    assert [part.shape for part in parts] == [(500, latent_dim), (500, latent_dim), (101, latent_dim)]
    np.testing.assert_array_equal(np.concatenate(parts), latent_space.draw(1101, latent_dim, 5))


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
