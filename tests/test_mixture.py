"""The mixture of Gaussians that autoencoder.py draws codes from."""

import numpy as np
import pytest

from blocks.mixture import draw_from_mixture, fit_mixture


def test_codes_are_drawn_from_the_mixture_and_fitted_again():
    means = np.array([[0.0, 0.0], [10.0, -10.0]])
    covariances = np.array([[[1.0, 0.8], [0.8, 1.0]], [[4.0, 0.0], [0.0, 0.25]]])
    codes = next(draw_from_mixture([0.25, 0.75], means, covariances, 20_000, seed=0, size=20_000))
    assert codes.dtype == np.float32
    second = codes[:, 1] < -5  # six deviations from the first mean, ten from the second
    assert second.mean() == pytest.approx(0.75, abs=0.01)
    for rows, mean, covariance in zip((codes[~second], codes[second]), means, covariances, strict=True):
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=0.06)
        np.testing.assert_allclose(np.cov(rows, rowvar=False), covariance, atol=0.12)
    fitted = fit_mixture(codes[:2000], seed=0)
    assert fitted["weights"].sum() == pytest.approx(1)
    np.testing.assert_allclose(fitted["weights"] @ fitted["means"], codes[:2000].mean(axis=0), atol=0.1)


def test_mixture_of_a_single_code():
    mixture = fit_mixture(np.array([[1.0, -2.0, 3.0]], np.float32), seed=0)
    codes = next(draw_from_mixture(**mixture, count=100, seed=0, size=100))
    np.testing.assert_allclose(codes.mean(axis=0), [1.0, -2.0, 3.0], atol=0.02)


def test_codes_drawn_in_parts_are_those_drawn_at_once():
    mixture = fit_mixture(np.random.default_rng(0).normal(size=(500, 4)), seed=0)
    at_once = list(draw_from_mixture(**mixture, count=1100, seed=3, size=1100))
    parts = list(draw_from_mixture(**mixture, count=1100, seed=3, size=500))
    assert [len(part) for part in parts] == [500, 500, 100]
    np.testing.assert_array_equal(np.concatenate(parts), at_once[0])
